// Sockets for datagrams.
'use strict';
const dgram = require('node:dgram');
const HOSTS = {
  'every address': ['udp4', {}],
  '0.0.0.0': ['udp4', { address: '0.0.0.0' }],
  '127.0.0.1': ['udp4', { address: '127.0.0.1' }],
  'IPv6': ['udp6', {}],
  'IPv6 only': [{ type: 'udp6', ipv6Only: true }, {}],
  '::1': ['udp6', { address: '::1' }],
  'every address, reused': [{ type: 'udp4', reuseAddr: true }, {}],
};

module.exports = async ({ pair, behaviour, clear, freePort, later, until }) => {
  const [one, two] = await pair();
  const bound = '(name, options, type) => bind(name, options, type)';
  for (const [name, [type, more]] of Object.entries(HOSTS)) {
    await behaviour(`any port at ${name}`, () => one.run(bound, 'a', { port: 0, ...more }, type));
    await clear();
    await behaviour(`a port at ${name}`, async () => one.run(bound, 'a', { port: await freePort(), ...more }, type));
    await clear();
    await behaviour(`a port at ${name}, in two workers`, async () => {
      const port = await freePort();
      return [await one.run(bound, 'a', { port, ...more }, type), await two.run(bound, 'a', { port, ...more }, type)];
    });
    await clear();
    for (const [other, [type2, more2]] of Object.entries(HOSTS)) {
      // From 22 on Node's own worker ends with a failed assertion then.
      if (type2.reuseAddr && type2.type === (type.type ?? type) && parseInt(process.versions.node, 10) >= 22) continue;
      await behaviour(`a port at ${name}, then at ${other}`, async () => {
        const port = await freePort();
        return [await one.run(bound, 'a', { port, ...more }, type), await one.run(bound, 'b', { port, ...more2 }, type2)];
      });
      await clear();
    }
  }
  await behaviour('any port is the same in all workers', async () => {
    await one.run(bound, 'a', { port: 0 });
    await two.run(bound, 'a', { port: 0 });
    return (await one.run(() => portOf('a'))) === (await two.run(() => portOf('a')));
  });
  await clear();
  await behaviour('any port, exclusive, is one of its own', async () => {
    await one.run(bound, 'a', { port: 0, exclusive: true });
    await two.run(bound, 'a', { port: 0, exclusive: true });
    return (await one.run(() => portOf('a'))) === (await two.run(() => portOf('a')));
  });
  await clear();
  await behaviour('the same port twice in one worker', async () => {
    const port = await freePort();
    return [await one.run(bound, 'a', { port }), await one.run(bound, 'b', { port })];
  });
  await clear();
  await behaviour('a port that is closed can be had again', async () => {
    const port = await freePort();
    await one.run(bound, 'a', { port });
    await one.run(() => close('a'));
    return one.run(bound, 'a', { port });
  });
  await clear();
  await behaviour("somebody else's port", async () => {
    const socket = dgram.createSocket('udp4');
    await new Promise((resolve) => socket.bind({ port: 0, exclusive: true }, resolve));
    const found = await one.run(bound, 'a', { port: socket.address().port });
    socket.close();
    return found;
  });
  await clear();
  await behaviour('an address that is not ours', async () => one.run(bound, 'a', { port: await freePort(), address: '192.0.2.1' }));
  await clear();
  const got = async () => ((await one.run(() => kept.get('a').got)).concat(await two.run(() => kept.get('a').got)));
  await behaviour('a datagram comes to one worker', async () => {
    const port = await freePort();
    await one.run(bound, 'a', { port });
    await two.run(bound, 'a', { port });
    const client = dgram.createSocket('udp4');
    client.send('hello', port, '127.0.0.1');
    await until(async () => ((await got()).length > 0 ? true : undefined));
    await later(100);
    client.close();
    return got();
  });
  await clear();
  await behaviour('of many datagrams each comes to one worker', async () => {
    const port = await freePort();
    await one.run(bound, 'a', { port });
    await two.run(bound, 'a', { port });
    const client = dgram.createSocket('udp4');
    for (let n = 0; n < 20; n += 1) await new Promise((resolve) => client.send(String(n), port, '127.0.0.1', resolve));
    await until(async () => ((await got()).length >= 20 ? true : undefined), 3000);
    await later(50);
    client.close();
    return (await got()).length;
  });
  await clear();
  for (const reuseAddr of [false, true]) {
    await behaviour(`a datagram for a group comes once${reuseAddr ? ', with reuseAddr' : ''}`, async () => {
      const port = await freePort();
      const joined = async (port, reuseAddr) => {
        await bind('a', { port }, { type: 'udp4', reuseAddr });
        try {
          kept.get('a').addMembership('239.1.2.3', '127.0.0.1');
          return 'joined';
        } catch (error) {
          return error.code;
        }
      };
      const found = [await one.run(joined, port, reuseAddr), await two.run(joined, port, reuseAddr)];
      const client = dgram.createSocket('udp4');
      await new Promise((resolve) => client.bind(0, '127.0.0.1', resolve));
      client.setMulticastInterface('127.0.0.1');
      client.setMulticastLoopback(true);
      client.send('group', port, '239.1.2.3');
      await until(async () => ((await got()).length > 0 ? true : undefined), 3000);
      await later(100);
      client.close();
      return [...found, await got()];
    });
    await clear();
  }
  await behaviour('an answer comes from the port that was asked', async () => {
    const port = await freePort();
    await one.run(async (port) => {
      await bind('a', { port });
      kept.get('a').on('message', (text, from) => kept.get('a').send(`${text} back`, from.port, from.address));
    }, port);
    const client = dgram.createSocket('udp4');
    const answer = new Promise((resolve) => client.on('message', (text, from) => resolve([String(text), from.port === port])));
    client.send('there and', port, '127.0.0.1');
    const found = await answer;
    client.close();
    return found;
  });
  await clear();
  await behaviour('what the primary hears of any port', async () => {
    await one.run(bound, 'a', { port: 0 });
    const port = await one.run(() => portOf('a'));
    const found = await until(() => {
      const { listening } = one;
      const at = listening?.port ?? Number(/:(\d+)$/.exec(listening?.address)?.[1]);
      return at === port ? true : undefined;
    }, 2000);
    return found;
  });
  await clear();
};

// What a server that is not the front's is told of where it listens, in one worker and in two.
'use strict';
const WAYS = {
  'any port': { port: 0 },
  'any port at 127.0.0.1': { port: 0, host: '127.0.0.1' },
  'any port at ::1': { port: 0, host: '::1' },
  'any port at 0.0.0.0': { port: 0, host: '0.0.0.0' },
  'a port': { port: 'free' },
  'a port and a backlog': { port: 'free', backlog: 3 },
  'a port at localhost': { port: 'free', host: 'localhost' },
  'a port at 127.0.0.1': { port: 'free', host: '127.0.0.1' },
  'a port at 127.0.0.9': { port: 'free', host: '127.0.0.9' },
  'a port at ::': { port: 'free', host: '::' },
  'a port at :: only': { port: 'free', host: '::', ipv6Only: true },
  'a port at ::1': { port: 'free', host: '::1' },
  'a port at ::ffff:127.0.0.1': { port: 'free', host: '::ffff:127.0.0.1' },
  'a port, exclusive': { port: 'free', exclusive: true },
  'any port, exclusive': { port: 0, exclusive: true },
  'an address that is not ours': { port: 'free', host: '192.0.2.1' },
  'an IPv6 address that is not ours': { port: 'free', host: '2001:db8::1' },
  'a zone that there is not': { port: 'free', host: 'fe80::1%nowhere0' },
  'a zone': { port: 'free', host: 'fe80::1%lo' },
  'a port that is too high': { port: 65536 },
  'a port below 0': { port: -1 },
  'a port that is text': { port: 'text' },
  'a descriptor that is not open': { fd: 987 },
  'a descriptor that is no socket': { fd: 0 },
};

module.exports = async ({ pair, behaviour, clear, freePort, dial, dialClosed }) => {
  const [one, two] = await pair();
  const opened = '(name, options, kind) => open(name, options, kind)';
  const fresh = async (way) => (way.port === 'free' ? { ...way, port: await freePort() } : way);
  for (const [name, way] of Object.entries(WAYS)) {
    await behaviour(`${name}: in one worker`, async () => one.run(opened, 'a', await fresh(way)));
    await clear();
    await behaviour(`${name}: in two`, async () => {
      const options = await fresh(way);
      return [await one.run(opened, 'a', options), await two.run(opened, 'a', options)];
    });
    await clear();
    await behaviour(`${name}: in two at once`, async () => {
      const options = await fresh(way);
      const both = await Promise.all([one.run(opened, 'a', options), two.run(opened, 'a', options)]);
      return both.map(JSON.stringify).sort();
    });
    await clear();
  }
  for (const kind of ['http', 'https', 'tls', 'h2']) {
    await behaviour(`a server of ${kind}`, async () => {
      const options = { port: await freePort() };
      return [await one.run(opened, 'a', options, kind), await two.run(opened, 'a', options, kind)];
    });
    await clear();
  }
  const same = async (name) => (await one.run((name) => portOf(name), name)) === (await two.run((name) => portOf(name), name));
  await behaviour('any port is the same in all workers', async () => {
    await one.run(opened, 'a', { port: 0 });
    await two.run(opened, 'a', { port: 0 });
    return same('a');
  });
  await behaviour('the second of any port is the same in all workers, and not the first', async () => {
    await one.run(opened, 'b', { port: 0 });
    await two.run(opened, 'b', { port: 0 });
    return [await same('b'), (await one.run(() => portOf('a'))) === (await one.run(() => portOf('b')))];
  });
  await clear();
  await behaviour('any port is the same in all workers that ask at once', async () => {
    await Promise.all([one.run(opened, 'a', { port: 0 }), two.run(opened, 'a', { port: 0 })]);
    return same('a');
  });
  await clear();
  await behaviour('any port, closed and asked for again', async () => {
    await one.run(opened, 'a', { port: 0 });
    await one.run(() => close('a'));
    return one.run(opened, 'a', { port: 0 });
  });
  await clear();
  await behaviour("somebody else's port", async () => {
    const server = require('node:net').createServer();
    await new Promise((resolve) => server.listen({ port: 0, host: '127.0.0.1', exclusive: true }, resolve));
    const found = await one.run(opened, 'a', { port: server.address().port, host: '127.0.0.1' });
    server.close();
    return found;
  });
  await clear();
  await behaviour('a port that was refused is free for all a moment later', async () => {
    const server = require('node:net').createServer();
    await new Promise((resolve) => server.listen({ port: 0, host: '127.0.0.1', exclusive: true }, resolve));
    const options = { port: server.address().port, host: '127.0.0.1' };
    await one.run(opened, 'a', options);
    await new Promise((resolve) => server.close(resolve));
    return [await two.run(opened, 'a', options), await one.run(opened, 'b', options)];
  });
  await clear();
  await behaviour('nobody else may share a port of the workers', async () => {
    const port = await freePort();
    await one.run(opened, 'a', { port });
    return new Promise((resolve) => {
      require('node:child_process').execFile('python3', ['-c', 'import socket,sys\n' +
        's=socket.socket(socket.AF_INET6)\ns.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEPORT,1)\n' +
        'try:\n s.bind(("::",int(sys.argv[1]))); s.listen(); print("shared")\nexcept OSError as e: print(e.errno)', port],
      (error, out) => resolve(out.trim()));
    });
  });
  await clear();
  await behaviour('a port is reached from outside in each worker alone', async () => {
    const port = await freePort();
    const found = [];
    for (const worker of [one, two]) {
      await worker.run(opened, 'a', { port });
      found.push(await dial({ port, host: '127.0.0.1' }));
      await worker.run(() => close('a'));
    }
    return found;
  });
  await behaviour('a port that all have closed is refused', async () => {
    const port = await freePort();
    await one.run(opened, 'a', { port });
    await two.run(opened, 'a', { port });
    await one.run(() => close('a'));
    await two.run(() => close('a'));
    return dialClosed({ port, host: '127.0.0.1' });
  });
  await behaviour('one worker closes a port, the other serves on', async () => {
    const port = await freePort();
    await one.run(opened, 'a', { port });
    await two.run(opened, 'a', { port });
    await one.run(() => close('a'));
    const found = new Set();
    for (let turn = 0; turn < 20; turn += 1) found.add(await dial({ port, host: '127.0.0.1' }));
    return [...found];
  });
  await clear();
  await behaviour('a port of two workers answers every connection', async () => {
    const port = await freePort();
    await one.run(opened, 'a', { port });
    await two.run(opened, 'a', { port });
    const found = await Promise.all(Array.from({ length: 50 }, () => dial({ port, host: '127.0.0.1' })));
    return found.every((text) => text === '1' || text === '2');
  });
  await clear();
  await behaviour('a worker that is stuck does not hold up a shared port', async () => {
    const port = await freePort();
    await one.run(opened, 'a', { port });
    await two.run(opened, 'a', { port });
    one.run(() => { const end = Date.now() + 700; while (Date.now() < end); });
    const begun = Date.now();
    await new Promise((resolve) => setTimeout(resolve, 100));
    const found = await Promise.all(Array.from({ length: 10 }, () => dial({ port, host: '127.0.0.1' })));
    return [found.filter((text) => text === '2').length >= 9];
  });
  await clear();
  await behaviour('the worker connects to a port of its own', async () => {
    const port = await freePort();
    return one.run(async (port) => { await open('a', { port }); return dial({ port, host: '127.0.0.1' }); }, port);
  });
  await clear();
  await behaviour("the worker connects to the front's port", () => one.run(() => dial({ port: Number(process.env.PORT), host: '127.0.0.1' })
    .then((text) => (text === 'ECONNREFUSED' ? text : 'connected'))));
};

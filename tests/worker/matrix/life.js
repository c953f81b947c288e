// What a worker is told of itself, and servers that close and listen again.
'use strict';

module.exports = async ({ pair, behaviour, clear, freePort, certificate }) => {
  certificate();
  const [one, two] = await pair();
  for (const what of [
    'cluster.isWorker', 'cluster.isPrimary', 'cluster.isMaster', 'cluster.worker.id', 'typeof cluster.fork', 'typeof cluster.workers',
    'typeof cluster.settings', 'typeof cluster.schedulingPolicy', 'typeof cluster.setupPrimary', 'cluster.worker.isConnected()',
    'cluster.worker.isDead()', 'cluster.worker.exitedAfterDisconnect', 'cluster.worker.state', 'cluster.worker.process === process',
    'process.connected', 'typeof process.channel', 'typeof process.send', 'typeof process.disconnect', 'process.env.NODE_UNIQUE_ID',
    'process.env.NODE_CHANNEL_FD', 'process.env.NODE_CHANNEL_SERIALIZATION_MODE', 'process.argv.length', 'process.execArgv',
    'process.ppid > 1', 'require("node:worker_threads").isMainThread', 'typeof cluster.worker.kill', 'Object.keys(cluster).sort()',
    'process.stdin.isTTY', 'process.umask()', 'process.listenerCount("disconnect")', 'process.listenerCount("internalMessage")',
    'Object.keys(cluster.worker).sort()',
  ]) {
    await behaviour(what, () => one.run((what) => (0, eval)(what.replace('require(', 'process.mainModule.require(')), what));
  }
  const answer = async (worker, options, type = 'net') => {
    return worker.run(async (options, type) => {
      internal.length = 0;
      const told = type === 'udp4' ? await bind('a', options) : await open('a', options, type);
      const reply = internal.find((message) => message.ack !== undefined && message.key !== undefined) ??
        internal.find((message) => message.msg?.key !== undefined)?.msg;
      await close('a');
      return [told, reply && { errno: reply.errno, data: reply.data === null ? null : typeof reply.data, sockname: typeof reply.sockname }];
    }, options, type);
  };
  await behaviour('the answer to a bind', async () => answer(one, { port: await freePort() }, 'udp4'));
  await behaviour('the answer to a listen that fails', async () => answer(one, { port: await freePort(), host: '192.0.2.1' }));
  await behaviour('the answer to the listen of the front', async () => {
    await one.run(() => close('front'));
    return one.run(async () => {
      internal.length = 0;
      await open('front', { port: Number(process.env.PORT) }, 'http');
      const reply = internal.find((message) => message.key !== undefined);
      return { errno: reply.errno, data: reply.data, sockname: reply.sockname && { ...reply.sockname, port: 'PORT' } };
    });
  });
  const keys = (name, port, kind) => open(name, { port }, kind).then(() => kept.get(name).getTicketKeys().toString('hex'));
  for (const kind of ['https', 'tls']) {
    await behaviour(`ticket keys of ${kind} are the same in all workers`, async () => {
      const port = await freePort();
      const found = [await one.run(keys, 'a', port, kind), await two.run(keys, 'a', port, kind)];
      return [found[0].length, found[0] === found[1]];
    });
    await clear();
    await behaviour(`ticket keys of ${kind} are the same in all workers that begin at once`, async () => {
      const port = await freePort();
      const found = await Promise.all([one.run(keys, 'a', port, kind), two.run(keys, 'a', port, kind)]);
      return found[0] === found[1];
    });
    await clear();
  }
  await behaviour('ticket keys of another port are others', async () => {
    const found = [await one.run(keys, 'a', await freePort(), 'tls'), await one.run(keys, 'b', await freePort(), 'tls')];
    return found[0] === found[1];
  });
  await clear();
  await behaviour("ticket keys of the front's server are the same in all workers", async () => {
    for (const worker of [one, two]) await worker.run(() => close('front'));
    const at = await one.run(() => Number(process.env.PORT));
    const found = [await one.run(keys, 'front', at, 'https'), await two.run(keys, 'front', at, 'https')];
    return found[0] === found[1];
  });
  await behaviour('a session of one worker is resumed by another', async () => {
    const tls = require('node:tls');
    const port = one.address ? undefined : await one.run(() => Number(process.env.PORT));
    const connect = (worker, session) => new Promise((resolve) => {
      const at = worker.address ?? { host: '127.0.0.1', port };
      const socket = tls.connect({ ...at, session, rejectUnauthorized: false, maxVersion: 'TLSv1.2' });
      socket.on('error', (error) => resolve({ error: error.code }));
      socket.on('secureConnect', () => {
        socket.write('GET / HTTP/1.0\r\n\r\n');
        socket.on('data', () => {});
        socket.on('close', () => resolve({ session: socket.getSession(), reused: socket.isSessionReused() }));
      });
    });
    const { session, error } = await connect(one);
    if (error) return error;
    return [(await connect(two, session)).reused, (await connect(two, session)).reused, (await connect(one, session)).reused];
  });
  for (const worker of [one, two]) {
    await worker.run(() => close('front'));
    await worker.run(() => open('front', { port: Number(process.env.PORT) }, 'http'));
  }
  await two.run(() => close('front')); // under Node's primary it would be in the way
  const again = (how) => one.run(async (how) => {
    await close('front');
    return open('front', (0, eval)(how), 'http');
  }, how);
  for (const [name, how] of Object.entries({
    'the same port': '({ port: Number(process.env.PORT) })', 'a host': '({ port: Number(process.env.PORT), host: "127.0.0.1" })',
    'IPv6': '({ port: Number(process.env.PORT), host: "::1" })', 'the port as text': 'process.env.PORT',
    'the port as text in options': '({ port: process.env.PORT })', 'a backlog': '({ port: Number(process.env.PORT), backlog: 9 })',
    'localhost': '({ port: Number(process.env.PORT), host: "localhost" })',
    'IPv6 only': '({ port: Number(process.env.PORT), host: "::", ipv6Only: true })',
  })) {
    await behaviour(`the front's server closes and listens at ${name}`, () => again(how));
  }
  await again('({ port: Number(process.env.PORT) })');
  for (const [name, code] of Object.entries({
    'twice': 'server.listen(port); server.listen(port);', 'after its end': 'server.listen(port); server.close(); server.listen(port);',
    'and closes at once': 'server.listen(port).close();',
  })) {
    await behaviour(`a server that listens ${name}`, async () => one.run((code, port) => new Promise((resolve) => {
      const said = [];
      const server = net.createServer();
      server.on('error', (error) => said.push(error.code));
      server.on('listening', () => said.push('listening'));
      server.on('close', () => said.push('close'));
      try { new Function('server', 'port', code)(server, port); } catch (error) { said.push(`throws ${error.code}`); }
      setTimeout(() => { server.close(); resolve(said.sort()); }, 200);
    }), code, await freePort()));
  }
  await behaviour('unref and ref of a server', async () => one.run(async (port) => {
    await open('a', { port });
    kept.get('a').unref();
    kept.get('a').ref();
    return kept.get('a').listening;
  }, await freePort()));
  await clear();
  await behaviour('getConnections', async () => one.run(async (port) => {
    await open('a', { port });
    const socket = net.connect(port);
    await new Promise((resolve) => socket.once('connect', resolve));
    return new Promise((resolve) => kept.get('a').getConnections((error, count) => { socket.destroy(); resolve([error, count <= 1]); }));
  }, await freePort()));
  await clear();
};

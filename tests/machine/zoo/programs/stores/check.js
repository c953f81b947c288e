// check.js LIBRARY…: each library does what it is for, over the server that REDIS_SOCKET, REDIS_USERNAME and
// REDIS_PASSWORD name; prints for each "LIBRARY: works" or "LIBRARY: " and what it ran into.
const assert = require('node:assert');
const { once } = require('node:events');
const http = require('node:http');

const { REDIS_SOCKET: path, REDIS_USERNAME: username, REDIS_PASSWORD: password } = process.env;
const Redis = require('ioredis');
const options = { path, username, password, maxRetriesPerRequest: null };
const ioredis = (more) => new Redis({ ...options, ...more });
const nodeRedis = async () => {
  const client = require('redis').createClient({ socket: { path }, username, password });
  client.on('error', () => {});
  await client.connect();
  return client;
};
const serve = async (app) => {
  const server = http.createServer(app).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${server.address().port}/`;
};
const soon = async (what, holds) => {
  for (let i = 0; i < 200; i++) {
    if (await holds()) return;
    await new Promise((done) => setTimeout(done, 25));
  }
  throw new Error(`never: ${what}`);
};

const libraries = {
  async 'connect-redis'() {
    const session = require('express-session');
    const { RedisStore } = require('connect-redis');
    const app = require('express')();
    app.use(session({ store: new RedisStore({ client: await nodeRedis() }), secret: 'x', resave: false, saveUninitialized: false }));
    app.get('/', (request, response) => response.json({ n: (request.session.n = (request.session.n ?? 0) + 1) }));
    const url = await serve(app);
    const first = await fetch(url);
    const cookie = first.headers.get('set-cookie').split(';')[0];
    await first.text();
    assert.deepEqual(await (await fetch(url, { headers: { cookie } })).json(), { n: 2 });
  },

  async 'express-rate-limit (rate-limit-redis)'() {
    const { rateLimit } = require('express-rate-limit');
    const { RedisStore } = require('rate-limit-redis');
    const client = await nodeRedis();
    const app = require('express')();
    const store = new RedisStore({ sendCommand: (...words) => client.sendCommand(words) });
    app.use(rateLimit({ windowMs: 60000, limit: 2, store, validate: false }));
    app.get('/', (request, response) => response.send('ok'));
    const url = await serve(app);
    const statuses = [];
    for (let i = 0; i < 3; i++) statuses.push((await fetch(url)).status);
    assert.deepEqual(statuses, [200, 200, 429]);
  },

  async 'rate-limiter-flexible'() {
    const { RateLimiterRedis } = require('rate-limiter-flexible');
    const limiter = new RateLimiterRedis({ storeClient: ioredis(), points: 2, duration: 60, keyPrefix: `l${Date.now()}` });
    await limiter.consume('a');
    await limiter.consume('a');
    await assert.rejects(limiter.consume('a'), (refused) => {
      if (refused instanceof Error) throw refused;
      return refused.remainingPoints === 0;
    });
  },

  async redlock() {
    const Redlock = require('redlock');
    const locks = new Redlock([ioredis()], { retryCount: 0 });
    const lock = await locks.lock('resource', 10000);
    await assert.rejects(locks.lock('resource', 1000));
    await lock.extend(5000);
    await lock.unlock();
    await (await locks.lock('resource', 1000)).unlock();
  },

  async BullMQ() {
    const { Queue, QueueEvents, Worker } = require('bullmq');
    const queue = new Queue('q', { connection: options });
    queue.on('error', () => {});
    await queue.obliterate({ force: true });
    const done = [];
    const worker = new Worker('q', async (job) => (done.push(job.data.n), job.data.n * 2), { connection: options });
    worker.on('error', () => {});
    const events = new QueueEvents('q', { connection: options });
    await events.waitUntilReady();
    const job = await queue.add('double', { n: 21 });
    await queue.add('later', { n: 1 }, { delay: 100 });
    assert.equal(await job.waitUntilFinished(events, 10000), 42);
    await soon('the delayed job', () => done.length === 2);
    assert.equal((await queue.getWorkers()).length, 1);
  },

  async Bull() {
    const Queue = require('bull');
    const queue = new Queue('bull', { redis: options });
    queue.on('error', () => {});
    await queue.isReady();
    queue.process(async (job) => job.data.n * 2);
    const job = await queue.add({ n: 21 });
    assert.equal(await job.finished(), 42);
  },

  async 'bee-queue'() {
    const Queue = require('bee-queue');
    const queue = new Queue('bee', { redis: { path, user: username, password } });
    queue.on('error', () => {});
    queue.process(async (job) => job.data.n * 2);
    const job = queue.createJob({ n: 21 });
    const result = new Promise((done) => job.on('succeeded', done));
    await job.save();
    assert.equal(await result, 42);
  },

  async '@socket.io/redis-adapter'() {
    const { Server } = require('socket.io');
    const { io } = require('socket.io-client');
    const { createAdapter } = require('@socket.io/redis-adapter');
    const servers = [];
    for (let i = 0; i < 2; i++) {
      const server = new Server(0, { adapter: createAdapter(ioredis(), ioredis()) });
      server.of('/').adapter.on('error', () => {});
      servers.push(server);
    }
    const client = io(`http://127.0.0.1:${servers[0].httpServer.address().port}`, { transports: ['websocket'] });
    await once(client, 'connect');
    await soon('both servers know each other', async () => (await servers[1].of('/').adapter.serverCount()) === 2);
    const heard = once(client, 'news');
    servers[1].emit('news', 'from the other one');
    assert.deepEqual(await heard, ['from the other one']);
  },
};

(async () => {
  const names = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(libraries);
  for (const name of names) {
    const late = new Promise((_, fail) => setTimeout(() => fail(new Error('no answer in 15 s')), 15000).unref());
    const seen = [];
    const note = (error) => seen.push(error);
    process.on('unhandledRejection', note).on('uncaughtException', note);
    let said = 'works';
    try {
      await Promise.race([libraries[name](), late]);
    } catch (error) {
      said = String((seen[0] ?? error).message ?? error).split('\n')[0];
    }
    process.off('unhandledRejection', note).off('uncaughtException', note);
    console.log(`${name}: ${said}`);
  }
  process.exit();
})();

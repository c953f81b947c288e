// An app that knows its users by express-session and connect-redis, over the client that CLIENT names.
const cluster = require('node:cluster');
const express = require('express');
const session = require('express-session');
// Its ninth version knows node-redis only.
const { RedisStore } = require(process.env.CLIENT === 'ioredis' ? 'connect-redis-8' : 'connect-redis');

const url = process.env.REDIS_URL;

function connect() {
  if (process.env.CLIENT === 'ioredis') return new (require('ioredis'))(url);
  // From its sixth version on, which needs Node 20, node-redis reads unix:// by itself.
  const modern = Number(process.versions.node.split('.')[0]) >= 20;
  const { createClient } = require(modern ? 'redis-6' : 'redis');
  const local = !modern && url.startsWith('unix:');
  const client = createClient(local ? { socket: { path: new URL(url).pathname } } : { url });
  client.on('error', (error) => console.error(`client: ${error.message}`));
  client.connect();
  return client;
}

const store = new RedisStore({ client: connect(), disableTouch: process.env.TOUCH === 'no' });
const app = express();
app.use(
  session({
    store,
    secret: 'the same for all workers',
    saveUninitialized: false,
    resave: process.env.RESAVE === 'yes',
    rolling: process.env.ROLLING === 'yes',
    cookie: { maxAge: 3600 * 1000 },
  }),
);

const answer = (request, response) =>
  response.json({ worker: String(cluster.worker.id), user: request.session?.user ?? null, session: request.sessionID });

app.get('/', answer);
app.get('/login', (request, response, next) => {
  request.session.regenerate((error) => {
    if (error) return next(error);
    request.session.user = request.query.user;
    if (request.query.seconds) request.session.cookie.maxAge = request.query.seconds * 1000;
    answer(request, response);
  });
});
app.get('/logout', (request, response, next) => {
  request.session.destroy((error) => (error ? next(error) : answer(request, response)));
});
// Every session of this user, on whatever device.
app.get('/logout-everywhere', async (request, response) => {
  const { user } = request.session;
  const sessions = await store.all();
  await Promise.all(sessions.filter((s) => s.user === user).map((s) => store.destroy(s.id)));
  request.session.destroy(() => response.json({ ended: sessions.length }));
});
app.listen(3000);

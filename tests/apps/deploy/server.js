'use strict';
// An app whose code is what its release's files say: `version` is what it answers, `behaviour` how
// it starts and ends: well (it handles no signal), late:MS, throw, only:N (all workers but N throw),
// never (it does not listen), crash:MS (after it has listened), ready (it says that it is), graceful
// (it closes at a signal), message (it closes at the message `shutdown`), hostile (it sends its
// parent whatever it can think of). Who asks with an X-Mark gets the app's name and the mark, too: until somebody
// has asked for /lie, when it is the mark of whoever asked before.
const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const { WebSocketServer } = require('ws');

const version = fs.readFileSync('version', 'utf8').trim();
const [behaviour, number] = fs.readFileSync('behaviour', 'utf8').trim().split(':');

const others = behaviour === 'only' && process.env.ROUNDSMAN_WORKER !== `shop:${number}`;
if (behaviour === 'throw' || others) throw new Error(`release ${version} is broken at load`);

let [before, lies] = ['', false];

const server = http.createServer((request, response) => {
  const url = new URL(request.url, 'http://x');
  const given = request.headers['x-mark'];
  const mark = lies ? before : given;
  if (given) before = given;
  const answer = given ? `${process.env.ROUNDSMAN_APP} ${version} ${mark}` : version;
  if (url.pathname === '/exit') process.exit(1);
  if (url.pathname === '/lie') lies = true;
  if (url.pathname === '/upload') {
    let received = 0;
    const digest = crypto.createHash('sha256');
    request.on('data', (piece) => {
      received += piece.length;
      if (given) digest.update(piece);
    });
    request.on('end', () => {
      response.setHeader('X-Received', received);
      response.end(given ? `${answer}:${digest.digest('base64')}` : answer);
    });
  } else if (url.pathname === '/events') {
    // Server-sent events, so many or for ever.
    let left = Number(url.searchParams.get('count') ?? Infinity);
    response.setHeader('Content-Type', 'text/event-stream');
    const send = () => {
      response.write(`data: ${answer}\n\n`);
      left -= 1;
      if (left > 0) return;
      clearInterval(timer);
      response.end();
    };
    const timer = setInterval(send, 100).unref();
    send();
  } else if (url.pathname === '/download') {
    // 64 KiB ten times a second.
    let left = Number(url.searchParams.get('ms')) / 100;
    response.setHeader('Content-Length', left * 65536);
    const timer = setInterval(() => {
      response.write(Buffer.alloc(65536, mark));
      left -= 1;
      if (left === 0) {
        clearInterval(timer);
        response.end();
      }
    }, 100);
  } else {
    // Every request takes a moment, so that some are in flight whatever happens.
    const slow = Number(url.searchParams.get('ms') ?? 6000);
    setTimeout(() => response.end(answer), url.pathname === '/slow' ? slow : 5);
  }
});
const sockets = new WebSocketServer({ server });
sockets.on('connection', (socket) => {
  socket.on('message', (text) => socket.send(`${version} ${text}`));
});
const listen = () => server.listen(process.env.PORT ?? 3000, () => {
  if (behaviour === 'ready') process.send('ready');
  if (behaviour === 'crash') {
    setTimeout(() => { throw new Error(`release ${version} crashes`); }, Number(number));
  }
});
if (behaviour === 'never') setInterval(() => {}, 1000);
else if (behaviour === 'late') setTimeout(listen, Number(number));
else listen();

if (behaviour === 'message') {
  process.on('message', (message) => {
    console.log(`message: ${JSON.stringify(message)}`);
    if (message !== 'shutdown') return;
    console.log('closing down');
    server.close();
    setTimeout(() => process.exit(0), 300);
  });
}
if (behaviour === 'graceful') {
  for (const signal of ['SIGINT', 'SIGTERM']) {
    process.on(signal, () => server.close(() => process.exit(0)));
  }
}
if (behaviour === 'hostile') {
  // Not { cmd: 'NODE_HANDLE' } without a handle: any answer to that is an assertion that fails in Node.
  const nested = JSON.parse('['.repeat(5000) + ']'.repeat(5000));
  const values = [null, 0, -1.5, '', 'x'.repeat(1 << 20), [], {}, nested, true,
    { cmd: 'NODE_' }, { cmd: 'NODE_CLUSTER' }, { cmd: 'NODE_CLUSTER', act: 'listening' },
    { type: 'process:msg', data: null },
    { type: 'axm:action', topic: null }, { roundsman: 'broadcast' }, { roundsman: null }];
  const shout = () => values.forEach((value) => { try { process.send(value); } catch {} });
  setInterval(shout, 100);
}

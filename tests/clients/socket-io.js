// Two clients of Socket.IO, each at a worker of its own, and what they hear of each other.
//
//   node socket-io.js URL1 URL2
'use strict';
const { io } = require('socket.io-client');

const connect = (url) => new Promise((resolve, reject) => {
  const socket = io(url, { transports: ['websocket'], reconnection: false });
  socket.heard = [];
  socket.onAny((event, text) => socket.heard.push(`${event} ${text}`));
  socket.on('connect', () => resolve(socket));
  socket.on('connect_error', reject);
});
const ask = async (url) => (await fetch(url)).json();
/** Asks until it is answered so: workers learn of each other with time. */
const settles = async (url, wanted) => {
  for (;;) {
    const found = await ask(url);
    if (found === wanted) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};
const said = async (socket, line) => {
  while (!socket.heard.includes(line)) await new Promise((resolve) => setTimeout(resolve, 10));
};

(async () => {
  const [first, second] = process.argv.slice(2);
  const [a, b] = [await connect(first), await connect(second)];
  await settles(`${first}/sockets`, 2);
  await settles(`${second}/servers`, 1);
  a.emit('say', 'hello');
  await Promise.all([said(a, 'said hello'), said(b, 'said hello')]);
  await b.emitWithAck('join', 'room');
  a.emit('whisper', 'room', 'psst');
  await said(b, 'whispered psst');
  const gone = new Promise((resolve) => b.on('disconnect', resolve));
  await a.emitWithAck('part', 'room');
  await gone;
  console.log(JSON.stringify({ a: a.heard, b: b.heard }));
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});

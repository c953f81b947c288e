// Does with process.send() and its events what Node's documentation says, and tells what happened.
const cluster = require('node:cluster');
const fs = require('node:fs');
const http = require('node:http');

const seen = { isWorker: cluster.isWorker, connected: process.connected, sent: null };
process.on('message', (message) => { seen.message = message; });
process.on('disconnect', () => fs.writeSync(1, 'disconnect event\n'));
http.createServer((request, response) => response.end(JSON.stringify(seen)))
  .listen(0, () => process.send({ hello: 'primary' }, (error) => { seen.sent = error === null; }));

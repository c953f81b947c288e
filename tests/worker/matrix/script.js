// Programs for what ends a worker, and how it is seen. Usage: node script.js NAME
'use strict';
const cluster = require('node:cluster');
const http = require('node:http');
const net = require('node:net');
const { writeSync } = require('node:fs');

const say = (text) => writeSync(1, `${text}\n`);
const serve = () => new Promise((resolve) => {
  const server = http.createServer((request, response) => response.end('ok'));
  server.listen(Number(process.env.PORT ?? 3000), () => { say('listens'); resolve(server); });
});

const scripts = {
  plain: () => serve(),
  handler() {
    process.on('SIGTERM', () => { say('handler'); process.exit(0); });
    serve();
  },
  handlerThatTakesTime() {
    process.on('SIGTERM', () => { say('handler'); setTimeout(() => { say('flushed'); process.exit(3); }, 300); });
    serve();
  },
  async handlerThatCloses() {
    let server;
    process.on('SIGTERM', () => { say('handler'); server.close(() => { say('closed'); process.disconnect(); }); });
    server = await serve();
  },
  handlerBesideAnOpenConnection() {
    process.on('SIGTERM', () => { say('handler'); process.exit(0); });
    net.connect(process.env.MATRIX, serve);
  },
  handlerBesideAnotherServer() {
    process.on('SIGTERM', () => { say('handler'); process.exit(0); });
    http.createServer(() => {}).listen(Number(process.env.OTHER), '127.0.0.1', () => { say('another'); serve(); });
  },
  onceHandler() {
    process.once('SIGTERM', () => { say('handler'); process.kill(process.pid, 'SIGTERM'); });
    serve();
  },
  exits() {
    process.on('message', () => process.exit(7));
    serve();
  },
  throws() {
    process.on('message', () => { throw new Error('thrown'); });
    serve();
  },
  rejects() {
    process.on('message', () => Promise.reject(new Error('rejected')));
    serve();
  },
  kills() {
    process.on('message', () => process.kill(process.pid, 'SIGKILL'));
    serve();
  },
  aborts() {
    process.on('message', () => process.abort());
    serve();
  },
  async disconnects() {
    await serve();
    cluster.worker.on('disconnect', () => say(`disconnect ${cluster.worker.exitedAfterDisconnect}`));
    process.on('exit', (code) => say(`exit ${code}`));
    process.on('message', () => cluster.worker.disconnect());
  },
  async killsItself() {
    await serve();
    process.on('exit', (code) => say(`exit ${code}`));
    process.on('message', () => cluster.worker.kill());
  },
  async leavesTheChannel() {
    await serve();
    process.on('exit', (code) => say(`exit ${code}`));
    process.on('message', () => process.disconnect());
  },
  async exitCode() {
    await serve();
    process.exitCode = 5;
    process.on('message', () => cluster.worker.disconnect());
  },
  async inspected() {
    await serve();
    const inspector = require('node:inspector');
    say(`inspector ${inspector.url() ? new URL(inspector.url()).port : 'none'}`);
  },
};
scripts[process.argv[2]]();

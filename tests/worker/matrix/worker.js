// A worker of the matrix: it runs the functions that the conductor sends it, and says what came of them.
'use strict';
const cluster = require('node:cluster');
const dgram = require('node:dgram');
const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const net = require('node:net');
const tls = require('node:tls');

const kept = new Map(); // servers and sockets by name
const heard = []; // messages
const internal = []; // answers of the primary
process.on('message', (message) => heard.push(message));
process.on('internalMessage', (message) => internal.push(message));

const me = String(cluster.worker?.id);
const secure = () => ({
  key: fs.readFileSync(`${process.env.MATRIX}.key`),
  cert: fs.readFileSync(`${process.env.MATRIX}.cert`),
});
const make = {
  net: () => net.createServer((socket) => socket.on('error', () => {}).end(me)),
  http: () => http.createServer((request, response) => response.end(me)),
  https: () => https.createServer(secure(), (request, response) => response.end(me)),
  tls: () => tls.createServer(secure(), (socket) => socket.on('error', () => {}).end(me)),
  h2: () => require('node:http2').createServer((request, response) => response.end(me)),
};
const wanted = (options) => Number(options?.port ?? options) || 0;
const port = (got, options) => (got === wanted(options) ? 'as wanted' : got > 0 ? 'some' : got);
const fault = (error, options) => ({
  error: error.code, errno: error.errno, syscall: error.syscall, address: error.address,
  port: 'port' in error ? port(error.port, options) : undefined,
});
const told = (address, options) => (
  address !== null && typeof address === 'object' ? { ...address, port: port(address.port, options) } : address
);

/** Makes it listen; what it says of itself, or its error. */
const open = (name, options, kind = 'net') => new Promise((resolve) => {
  const server = make[kind]();
  server.on('error', (error) => resolve(fault(error, options)));
  server.once('listening', () => {
    kept.set(name, server);
    resolve(told(server.address(), options));
  });
  try {
    server.listen(options);
  } catch (error) {
    resolve({ throws: error.code });
  }
});

/** Binds a socket for datagrams; what it says of itself, or its error. */
const bind = (name, options, type = 'udp4') => new Promise((resolve) => {
  const socket = dgram.createSocket(typeof type === 'string' ? { type } : type);
  socket.got = [];
  socket.on('message', (message) => socket.got.push(String(message)));
  socket.on('error', (error) => resolve(fault(error, options)));
  socket.once('listening', () => {
    kept.set(name, socket);
    resolve(told(socket.address(), options));
  });
  try {
    socket.bind(options);
  } catch (error) {
    resolve({ throws: error.code });
  }
});

/** Its real port. */
const portOf = (name) => kept.get(name)?.address().port;

const close = (name) => new Promise((resolve) => {
  const server = kept.get(name);
  kept.delete(name);
  if (server === undefined) return resolve('none');
  try {
    server.close(() => resolve('closed'));
    server.closeAllConnections?.();
  } catch (error) {
    resolve(error.code);
  }
});

const clear = async () => {
  for (const name of [...kept.keys()].filter((name) => name !== 'front')) await close(name);
  heard.length = 0;
};

const dial = (options) => new Promise((resolve) => {
  let text = '';
  const socket = net.connect(options);
  socket.setTimeout(2000, () => socket.destroy(new Error('late')));
  socket.on('data', (bytes) => { text += bytes; });
  socket.on('error', (error) => resolve(error.code ?? error.message));
  socket.on('close', () => resolve(text));
});

Object.assign(globalThis, { kept, heard, internal, open, bind, portOf, close, clear, dial, cluster, fs, net, dgram });

const link = net.connect(process.env.MATRIX);
const take = async (line) => {
  const { id, code, args } = JSON.parse(line);
  try {
    const value = await (0, eval)(`(${code})`)(...args);
    link.write(`${JSON.stringify({ id, value: value === undefined ? null : value })}\n`);
  } catch (error) {
    link.write(`${JSON.stringify({ id, value: { fails: error.code ?? error.message } })}\n`);
  }
};
let rest = '';
link.setEncoding('utf8').on('data', (text) => {
  const lines = (rest + text).split('\n');
  rest = lines.pop();
  lines.forEach(take);
});
link.on('close', () => process.exit(0));
open('front', { port: Number(process.env.PORT) }, 'http').then(() => {
  link.write(`${JSON.stringify({ worker: Number(me) })}\n`);
});

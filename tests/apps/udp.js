// Receives datagrams on a port of its own and shows over HTTP what came.
const dgram = require('node:dgram');
const http = require('node:http');
let last = 'nothing';
const socket = dgram.createSocket('udp4', (message) => { last = String(message); });
socket.bind(0, '127.0.0.1', () => {
  http.createServer((request, response) => {
    response.end(JSON.stringify({ port: socket.address().port, last }));
  }).listen(3000);
});

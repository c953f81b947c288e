// Sends its parent a handle now and then, and says how often that was acknowledged.
const net = require('node:net');
const http = require('node:http');
let acknowledged = 0;
const source = net.createServer((socket) => {
  process.send({ take: 'this' }, socket, () => { acknowledged += 1; });
});
source.listen({ port: 0, host: '127.0.0.1', exclusive: true }, () => {
  setInterval(() => net.connect(source.address().port, '127.0.0.1').on('error', () => {}), 20);
});
http.createServer((request, response) => response.end(String(acknowledged))).listen(3000);

// A plain server that listens on a port and on a host, twice, and knows nothing of clusters.
const http = require('node:http');

const server = http.createServer((request, response) => {
  const { port } = server.address();
  response.setHeader('Content-Type', 'application/json');
  response.end(JSON.stringify({ port, pid: process.pid, from: request.socket.remoteAddress }));
});
server.listen(3232, '127.0.0.1');

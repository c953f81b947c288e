// Takes two connections at a time.
const http = require('node:http');
const server = http.createServer((request, response) => setTimeout(() => response.end('ok'), 30));
server.maxConnections = 2;
server.listen(3000);

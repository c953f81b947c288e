// Says what a server sees of itself. Usage: node describe.js [PORT [HOST]]
const http = require('node:http');
const [port = '3232', host] = process.argv.slice(2);
const server = http.createServer((request, response) => {
  if (request.url === '/unwell') response.statusCode = 503;
  const { env, pid } = process;
  response.end(JSON.stringify({ pid, address: server.address(), remote: request.socket.remoteAddress, env }));
});
server.on('error', (error) => {
  console.error(error);
  process.exit(9);
});
server.listen(/^\d+$/.test(port) ? Number(port) : port, host);

// Listens twice on the same port, and serves what came of it.
const http = require('node:http');
let seen = 'nothing';
const server = http.createServer((request, response) => response.end(seen));
server.listen(3000, () => {
  const second = http.createServer(() => {});
  second.on('error', (error) => { seen = `${error.code} ${error.syscall} ${error.port}`; });
  second.on('listening', () => { seen = 'listening'; });
  second.listen(3000);
});

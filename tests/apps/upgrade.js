// Echoes after an upgrade, as a WebSocket server does.
const http = require('node:http');
const server = http.createServer((request, response) => response.end('plain'));
server.on('upgrade', (request, socket, head) => {
  socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n');
  socket.write(head);
  socket.pipe(socket);
});
server.listen(8080);

// Socket.IO over all workers, as its documentation has it, but for the primary's half.
const { createServer } = require('node:http');
const { Server } = require('socket.io');
const { createAdapter } = require('@socket.io/cluster-adapter');

const server = createServer(async (request, response) => {
  const answer = async () => {
    if (request.url === '/sockets') return (await io.fetchSockets()).length;
    if (request.url === '/servers') return (await io.serverSideEmitWithAck('who')).length;
    return process.env.ROUNDSMAN_WORKER;
  };
  response.end(JSON.stringify(await answer().catch((error) => error.message)));
});
const io = new Server(server, { transports: ['websocket'], adapter: createAdapter() });
io.on('who', (answer) => answer(process.env.ROUNDSMAN_WORKER));
io.on('connection', (socket) => {
  socket.on('join', (room, done) => { socket.join(room); done(); });
  socket.on('say', (text) => io.emit('said', text));
  socket.on('whisper', (room, text) => io.to(room).emit('whispered', text));
  socket.on('part', (room, done) => { io.in(room).disconnectSockets(true); done(); });
});
server.listen(3000);

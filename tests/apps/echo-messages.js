// Sends every message back; some make it do more.
let broadcasts = 0;
process.on('message', (message) => {
  if (message?.roundsman === 'broadcast') broadcasts += 1;
  if (message?.exit) {
    for (let i = 0; i < 100; i++) process.send('dying');
    process.exit(7);
  } else if (message?.disconnect) {
    process.disconnect();
  } else if (message?.times) {
    for (let number = 0; number < message.times; number++) {
      process.send({ roundsman: 'broadcast', data: { number, data: message.broadcast } });
    }
  } else if (process.connected) {
    process.send(message);
  }
});
require('node:http').createServer((request, response) => {
  response.end(request.url === '/broadcasts' ? String(broadcasts) : 'ok');
}).listen(process.env.PORT ?? 3000, process.env.HOST);

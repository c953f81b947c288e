// Sends each argument through the front and prints what comes back.
const WebSocket = require('ws');

const words = process.argv.slice(2);
const socket = new WebSocket('ws://localhost/chat');
let answered = 0;
socket.on('open', () => words.forEach((word) => socket.send(word)));
socket.on('message', (data) => {
  console.log(data.toString());
  if (++answered === words.length) socket.close(1000);
});
socket.on('close', (code) => process.exit(code === 1000 ? 0 : 1));
socket.on('error', (error) => { console.error(error.message); process.exit(1); });

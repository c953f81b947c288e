// Says who it is and who the client is; over TLS with a key and a certificate as arguments.
const fs = require('node:fs');
const [key, cert] = process.argv.slice(2).map((file) => fs.readFileSync(file));
const answer = (request, response) => {
  const { remoteAddress, remotePort, encrypted } = request.socket;
  const body = JSON.stringify({ worker: process.env.ROUNDSMAN_WORKER, remoteAddress, remotePort, encrypted });
  setTimeout(() => response.end(body), request.url === '/slow' ? 300 : 0);
};
const server = key ? require('node:https').createServer({ key, cert }, answer) : require('node:http').createServer(answer);
server.listen(3000);
process.on('message', (message) => {
  if (message !== 'block') return;
  process.send('blocked', () => {
    for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000);
  });
});

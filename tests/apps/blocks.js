// Blocks its event loop on the message "block" until there is a file named go in its directory.
const fs = require('node:fs');
process.on('message', (message) => {
  if (message !== 'block') return;
  while (!fs.existsSync(`${process.env.DIRECTORY}/go`)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
});
require('node:http').createServer((request, response) => response.end('ok')).listen(3000);

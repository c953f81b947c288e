// Serves, and does not want to end: neither when asked nor when its servers are closed.
process.on('SIGTERM', () => console.log('no'));
setInterval(() => {}, 1000);
require('node:http').createServer((request, response) => response.end('ok')).listen(3000);

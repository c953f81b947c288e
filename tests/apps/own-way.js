// Writes down in which ways it was asked to end, and ends a moment after the first.
const fs = require('node:fs');
const asked = (how) => {
  fs.appendFileSync(process.argv[2], `${how}\n`);
  setTimeout(() => process.exit(0), 200);
};
for (const signal of ['SIGTERM', 'SIGINT', 'SIGUSR2']) process.on(signal, () => asked(signal));
process.on('message', (message) => asked(`message ${message}`));
process.on('disconnect', () => asked('disconnect'));
require('node:http').createServer((request, response) => response.end('ok')).listen(3000);

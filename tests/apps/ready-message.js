// Listens at once and is ready when the file in its argument is there, as PM2's wait_ready wants it.
const { existsSync } = require('node:fs');
require('node:http').createServer((request, response) => response.end('ok')).listen(3000, () => {
  const timer = setInterval(() => {
    if (!existsSync(process.argv[2])) return;
    clearInterval(timer);
    process.send('ready');
  }, 10);
});

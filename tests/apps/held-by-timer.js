// Has no handler for anything, and a timer that would keep it for ever.
setInterval(() => {}, 1000);
require('node:http').createServer((request, response) => response.end('ok')).listen(3000);

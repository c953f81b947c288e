// Its health path answers well only when the file in its argument is there.
const { existsSync } = require('node:fs');
require('node:http').createServer((request, response) => {
  response.statusCode = request.url !== '/healthz' || existsSync(process.argv[2]) ? 200 : 503;
  response.end(`${request.headers.host} ${request.socket.remoteAddress}`);
}).listen(3000);

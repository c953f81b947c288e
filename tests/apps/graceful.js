// Ends in its own way on SIGTERM: closes its server and its "database" and exits with an own code.
const http = require('node:http');
const database = setInterval(() => {}, 1000);
const server = http.createServer((request, response) => setTimeout(() => response.end('done'), 200));
process.on('SIGTERM', () => {
  server.close(() => {
    clearInterval(database);
    require('node:fs').writeFileSync(process.argv[2], 'cleaned up');
    process.exit(0);
  });
});
server.listen(3000);

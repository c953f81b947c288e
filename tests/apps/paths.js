// Listens on the UNIX socket that the argument names.
const http = require('node:http');
const server = http.createServer((request, response) => response.end(JSON.stringify(server.address())));
server.listen(process.argv[2]);

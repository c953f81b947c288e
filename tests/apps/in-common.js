// Has a server for metrics, and one on a UNIX socket, beside the front's; writes down that it was asked to end.
// Usage: node in-common.js PORT PATH TRACE
const fs = require('node:fs');
const http = require('node:http');
const [port, path, trace] = process.argv.slice(2);
const serve = (where, then) => http.createServer((request, response) => response.end(process.env.ROUNDSMAN_WORKER)).listen(where, then);
process.on('SIGTERM', () => {
  fs.appendFileSync(trace, `${process.env.ROUNDSMAN_WORKER}\n`);
  process.exit(0);
});
serve({ path, writableAll: true }, () => serve({ port: Number(port), host: '127.0.0.1' }, () => serve(Number(process.env.PORT))));

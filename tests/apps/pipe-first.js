// Makes a pipe for its own processes first, as tsx does, then serves on 3000.
const http = require('node:http');
const pipe = `/tmp/roundsman-test-${process.pid}.pipe`;
process.on('exit', () => require('node:fs').rmSync(pipe, { force: true }));
require('node:net').createServer(() => {}).listen(pipe, () => {
  http.createServer((request, response) => response.end(pipe)).listen(3000);
});

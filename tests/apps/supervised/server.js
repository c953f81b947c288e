// An app that misbehaves when it is told to. It answers with its worker, process and version.
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');

const worker = process.env.ROUNDSMAN_WORKER;
const version = fs.readFileSync('version', 'utf8').trim();

// A worker whose name is in the file `sick` cannot start.
if (fs.existsSync('sick') && fs.readFileSync('sick', 'utf8').trim() === worker) {
  throw new Error(`${worker} is sick`);
}

const kept = [];
const credential = (name) =>
  fs.readFileSync(path.join(process.env.CREDENTIALS_DIRECTORY ?? '', name), 'utf8').trim();

http.createServer((request, response) => {
  // What version one leaks: so many KiB with each request, all of it touched.
  const kibibytes = version === 'one' ? Number(process.env.LEAK ?? 0) : 0;
  if (kibibytes) kept.push(Buffer.alloc(kibibytes * 1024, 1));
  const exit = request.url.match(/^\/exit\/(\d+)$/);
  if (exit) {
    response.end('as you wish');
    setTimeout(() => process.exit(Number(exit[1])), 50);
  } else if (request.url === '/environment') {
    const { NODE_APP_INSTANCE, FROM_FILE } = process.env;
    const password = process.env.CREDENTIALS_DIRECTORY ? credential('password') : null;
    response.end(JSON.stringify({ worker, NODE_APP_INSTANCE, FROM_FILE, password }));
  } else {
    setTimeout(() => response.end(`${worker} ${version}`), 5);
  }
}).listen(3232);

// Each kind of bad behaviour, by the first argument.
const { spawn } = require('node:child_process');
const http = require('node:http');

const serve = () => http.createServer((request, response) => {
  if (request.url === '/block') for (;;);
  // Busy for a while, as with a loop that is too long.
  if (request.url === '/busy') for (const end = Date.now() + 16000; Date.now() < end;);
  if (request.url.startsWith('/die')) process.exit(1);
  response.end(`pid ${process.pid}\n`);
}).listen(3232);

switch (process.argv[2]) {
  case 'blocks': serve(); break;
  case 'leaks':
    spawn('sleep', ['987654'], { detached: true, stdio: 'ignore' }).unref();
    serve();
    break;
  case 'never-listens': setInterval(() => {}, 1000); break;
  case 'exits': console.error('cannot go on'); process.exit(3); break;
  case 'ignores-sigterm':
    process.on('SIGTERM', () => console.log('SIGTERM ignored'));
    setInterval(() => {}, 1000);
    serve();
    break;
  default: throw new Error(`no such behaviour: ${process.argv[2]}`);
}

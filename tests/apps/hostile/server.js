// An app in the hands of an attacker: it runs whatever shell command it is sent, as itself, and
// answers with what that printed, or listens where it is told to. At its start it says in the journal who it is.
const http = require('node:http');
const net = require('node:net');
const { spawnSync } = require('node:child_process');

console.log(`uid ${process.getuid()}`);
const run = (script) => {
  const { stdout, stderr } = spawnSync('sh', ['-c', script], { encoding: 'utf8' });
  return stdout + stderr;
};

// Listens on this path as well, and says how that went.
const listen = (path, response) => {
  const server = net.createServer((client) => client.end('hostile\n'));
  server.on('error', (error) => response.end(error.code));
  server.listen(path, () => response.end('listens'));
};

http.createServer((request, response) => {
  if (request.url.startsWith('/listen/')) {
    listen(request.url.slice('/listen'.length), response);
    return;
  }
  let script = '';
  request.on('data', (data) => { script += data; });
  request.on('end', () => response.end(script ? run(script) : `uid ${process.getuid()}\n`));
}).listen(3232);

// A port of its own beside the front's, where it is asked for one.
if (process.env.SECOND_PORT) {
  const second = http.createServer((request, response) => response.end('second'));
  second.on('error', (error) => console.log(`second port: ${error.code}`));
  second.listen(Number(process.env.SECOND_PORT), () => console.log('second port: listening'));
}

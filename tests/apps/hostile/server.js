// An app in the hands of an attacker: it runs whatever shell command it is sent, as itself, and
// answers with what that printed. At its start it says in the journal who it is.
const http = require('node:http');
const { spawnSync } = require('node:child_process');

console.log(`uid ${process.getuid()}`);
const run = (script) => {
  const { stdout, stderr } = spawnSync('sh', ['-c', script], { encoding: 'utf8' });
  return stdout + stderr;
};

http.createServer((request, response) => {
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

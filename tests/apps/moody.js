// Does what the path says.
const { existsSync } = require('node:fs');
const http = require('node:http');
const server = http.createServer((request, response) => {
  const [, what, value] = request.url.split('/');
  switch (what) {
    case 'block': // the event loop, until the file in the argument is there
      while (!existsSync(process.argv[2]));
      return response.end('blocked');
    case 'slow': return setTimeout(() => response.end('slow'), Number(value));
    case 'exit': return process.exit(Number(value));
    case 'kill': return process.kill(process.pid, value);
    case 'again': // stop listening, and listen again after so many milliseconds
      response.end('again');
      return server.close(() => setTimeout(() => server.listen(3000), Number(value)));
    case 'disconnect': return response.end('bye', () => process.disconnect());
    case 'leave': return response.end('bye', () => require('node:cluster').worker.disconnect());
    default: return response.end(`ok ${process.pid}`);
  }
});
server.listen(3000);

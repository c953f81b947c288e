// Does what the path says.
const http = require('node:http');
const server = http.createServer((request, response) => {
  const [, what, value] = request.url.split('/');
  switch (what) {
    case 'block': { // the event loop, for so many milliseconds
      const end = Date.now() + Number(value);
      while (Date.now() < end);
      return response.end('blocked');
    }
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

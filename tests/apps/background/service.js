// What the bot polls: it answers after a while, and two at once get 409, as they do from chat services.
const fs = require('node:fs');

let polling = 0;
require('node:http').createServer((request, response) => {
  if (polling > 0) {
    fs.appendFileSync('/tmp/conflicts', 'two at once\n');
    return response.writeHead(409).end();
  }
  polling += 1;
  const answer = setTimeout(() => {
    const offset = Number(new URL(request.url, 'http://x').searchParams.get('offset'));
    response.end(JSON.stringify({ next: offset + 1 }));
    fs.writeFileSync('/tmp/polls', String(offset));
  }, 100);
  response.on('close', () => { polling -= 1; clearTimeout(answer); });
}).listen(9099, '127.0.0.1');

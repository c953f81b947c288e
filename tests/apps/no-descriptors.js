// Uses up its descriptors when it is asked to, and gives them back when the file in the argument is
// there.
const fs = require('node:fs');
const server = require('node:http').createServer((request, response) => {
  if (request.url !== '/eat') return response.end('ok');
  const eaten = [];
  try { for (;;) eaten.push(fs.openSync('/dev/null')); } catch { /* that was the last */ }
  const timer = setInterval(() => {
    try { fs.accessSync(process.argv[2]); } catch { return; }
    clearInterval(timer);
    eaten.forEach((fd) => fs.closeSync(fd));
  }, 10);
  response.end('eaten');
});
server.listen(3000);

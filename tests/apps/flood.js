// Sends messages without end, as fast as they are taken, and serves meanwhile.
let sent = 0;
(function more() {
  process.send({ number: sent++, text: 'x'.repeat(1000) }, () => setImmediate(more));
})();
require('node:http').createServer((request, response) => response.end(String(sent))).listen(3000);

// Broadcasts as many messages as it is told to, and says when as many have come.
let awaited = 0;
let got = 0;
let began = 0n;
process.on('message', (message) => {
  if (message.roundsman === 'broadcast') {
    if (got === 0) began = process.hrtime.bigint();
    got += 1;
    if (got === awaited) process.send({ seconds: Number(process.hrtime.bigint() - began) / 1e9 });
  } else if (message.await) {
    awaited = message.await;
    got = 0;
    process.send('awaiting');
  } else if (message.send) {
    let number = 0;
    (function more() {
      const end = Math.min(number + 500, message.send);
      for (; number < end - 1; number++) process.send({ roundsman: 'broadcast', data: { number, text: 'hello' } });
      const next = number + 1 < message.send ? more : undefined;
      process.send({ roundsman: 'broadcast', data: { number: number++, text: 'hello' } }, next);
    })();
  }
});
require('node:http').createServer((request, response) => response.end()).listen(3000);

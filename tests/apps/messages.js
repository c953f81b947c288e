// Sends one of everything that process.send() takes when it is told to go, then listens.
const values = ['text', '', 'é\n\u2028"\\', 1, -0.5, true, null, [], {}, { cmd: 'NODE_' }, { a: { b: [null] } },
  JSON.parse('{"__proto__": {"polluted": true}}'), { cmd: 5 }];
process.once('message', () => {
  for (const value of values) process.send(value);
  process.send({ big: 'é'.repeat(500000) });
  process.send('last');
  process.on('message', () => {});
  require('node:http').createServer((request, response) => response.end(`ok ${process.connected}`)).listen(3000);
});

'use strict';
// An app whose code is what its release's files say: `version` is what it answers, `behaviour` how
// it starts: well, late:MS, throw, never (it does not listen), crash:MS (after it has listened).
const fs = require('node:fs');
const http = require('node:http');

const version = fs.readFileSync('version', 'utf8').trim();
const [behaviour, number] = fs.readFileSync('behaviour', 'utf8').trim().split(':');

if (behaviour === 'throw') throw new Error(`release ${version} is broken at load`);

const server = http.createServer((request, response) => {
  // Every request takes a moment, so that some are in flight whatever happens.
  const time = request.url === '/slow' ? 6000 : 5;
  setTimeout(() => response.end(version), time);
});
const listen = () => server.listen(3000, () => {
  if (behaviour === 'crash') {
    setTimeout(() => { throw new Error(`release ${version} crashes`); }, Number(number));
  }
});
if (behaviour === 'never') setInterval(() => {}, 1000);
else if (behaviour === 'late') setTimeout(listen, Number(number));
else listen();

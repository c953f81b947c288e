// A main server on 3000, and one for metrics, on the port that the argument says, which listens first.
const http = require('node:http');
const metrics = http.createServer((request, response) => response.end(`metrics ${process.pid}`));
metrics.listen(Number(process.argv[2]), '127.0.0.1', () => {
  const main = http.createServer((request, response) => {
    response.end(JSON.stringify({ name: 'main', pid: process.pid, metrics: metrics.address().port }));
  });
  main.listen(3000);
});

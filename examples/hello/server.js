// The hello world of Node's own cluster module, as its documentation has it. Nothing in it knows
// about Roundsman: run by hand it forks two workers; under Roundsman each process is one already.
const cluster = require('node:cluster');
const http = require('node:http');

if (cluster.isPrimary) {
  cluster.fork();
  cluster.fork();
} else {
  http.createServer((request, response) => {
    response.end(`hello from worker ${cluster.worker.id}\n`);
  }).listen(3232);
}

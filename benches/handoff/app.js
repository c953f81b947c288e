// Answers; with the argument `cluster` under two workers of Node's own.
const cluster = require('node:cluster');
if (process.argv[2] === 'cluster' && cluster.isPrimary) {
  cluster.fork();
  cluster.fork();
} else {
  require('node:http').createServer((request, response) => response.end('hello')).listen(process.env.PORT ?? 3000, '127.0.0.1');
}

// The classic hello-world of Node's cluster module. As it stands it forks one worker per core;
// under Roundsman it runs unmodified, and Roundsman is the primary: each systemd unit is a worker.
const cluster = require('node:cluster');
const http = require('node:http');
const os = require('node:os');

if (cluster.isPrimary ?? cluster.isMaster) {
  for (let i = 0; i < os.cpus().length; i++) cluster.fork();
  cluster.on('exit', (worker) => console.log(`worker ${worker.process.pid} is gone`));
} else {
  http
    .createServer((request, response) => {
      response.end(`Hello from worker ${cluster.worker.id}, process ${process.pid}\n`);
    })
    .listen(3232);
}

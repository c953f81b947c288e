// Writes down what a cluster worker goes through, into the file that the argument names.
const cluster = require('node:cluster');
const fs = require('node:fs');
const note = (text) => fs.appendFileSync(process.argv[2], `${text}\n`);
note(`primary ${cluster.isPrimary} worker ${cluster.isWorker} id ${cluster.worker.id}`);
note(`send ${typeof process.send} connected ${process.connected} env ${process.env.NODE_UNIQUE_ID}`);
process.on('disconnect', () => note(`disconnect, connected ${process.connected}`));
cluster.worker.on('disconnect', () => note(`left, on purpose ${cluster.worker.exitedAfterDisconnect}`));
process.on('exit', (code) => note(`exit ${code}`));
const server = require('node:http').createServer((request, response) => response.end('ok'));
server.on('close', () => note('server closed'));
server.listen(3000, () => note('listening'));

// Listens on an inherited descriptor, as under plain socket activation.
require('node:http').createServer((request, response) => response.end('by descriptor')).listen({ fd: 3 });

// Does without its primary.
require('node:http').createServer(() => {}).listen({ port: 0, exclusive: true });

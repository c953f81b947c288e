// HTTPS with a key and a certificate (the arguments), whose ticket keys come from the primary.
const fs = require('node:fs');
const [key, cert] = process.argv.slice(2).map((file) => fs.readFileSync(file));
const server = require('node:https').createServer({ key, cert }, (request, response) => {
  response.end(`secure ${server.getTicketKeys().length}`);
});
server.listen(8443);

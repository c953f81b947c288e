// A bot that polls a service for updates, one request after the other, as those of chat services do.
const http = require('node:http');

function poll(offset) {
  http.get(`http://127.0.0.1:9099/updates?offset=${offset}`, (response) => {
    let text = '';
    response.on('data', (data) => { text += data; });
    response.on('end', () => {
      if (response.statusCode !== 200) throw new Error(`the service said ${response.statusCode}`);
      poll(JSON.parse(text).next);
    });
  }).on('error', () => setTimeout(poll, 100, offset));
}
poll(0);

const express = require('express');

const app = express();
app.set('trust proxy', 'loopback');
app.get('/', (request, response) => {
  response.json({ hello: 'express', ip: request.ip, protocol: request.protocol, host: request.hostname });
});
app.post('/echo', express.text({ type: '*/*' }), (request, response) => response.send(request.body));
app.listen(3000);

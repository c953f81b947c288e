const { WebSocketServer } = require('ws')

const wss = new WebSocketServer({ port: 8080 })

wss.on('connection', (ws) => {
  ws.on('error', console.error)
  // The harness's clients want their words back.
  ws.on('message', (data) => ws.send(`ws ${data}`))
})

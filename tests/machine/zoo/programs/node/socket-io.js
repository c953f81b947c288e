const express = require('express')
const { createServer } = require('node:http')
const { Server } = require('socket.io')

const app = express()
const server = createServer(app)
const io = new Server(server)

app.get('/', (req, res) => {
  res.send('Hello from Socket.IO')
})
io.on('connection', (socket) => {
  socket.on('chat message', (message) => io.emit('chat message', message))
})

server.listen(3000, () => {
  console.log('server running at http://localhost:3000')
})

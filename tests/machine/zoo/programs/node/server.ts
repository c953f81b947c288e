import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'

const port: number = Number(process.env.PORT ?? 3000)

createServer((_request: IncomingMessage, response: ServerResponse) => {
  response.end('Hello from TypeScript')
}).listen(port)

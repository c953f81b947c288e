// What the clients of the tests ask: a page, an echo, long bodies, and a stream of events. Says
// where it listens, and then what the page found.
import { createHash } from 'node:crypto'
import http from 'node:http'

const page = `<!doctype html><title>clients</title><body><script type=module>
const said = { protocol: performance.getEntriesByType('navigation')[0].nextHopProtocol }
const show = () => { document.body.textContent = JSON.stringify(said) }
show()
addEventListener('unhandledrejection', event => tell(String(event.reason)))
const tell = what => fetch('/said', { method: 'POST', body: JSON.stringify(what) })
const echo = await fetch('/echo', { method: 'POST', body: 'x'.repeat(300000) })
said.posted = (await echo.json()).length
const parts = await Promise.all([...Array(20).keys()].map(n => fetch('/large?bytes=' + n * 1000)))
said.got = (await Promise.all(parts.map(p => p.text()))).reduce((sum, text) => sum + text.length, 0)
said.events = await new Promise(done => {
  const seen = []
  const source = new EventSource('/events')
  source.onmessage = event => { seen.push(event.data); if (seen.length === 3) { source.close(); done(seen) } }
})
said.socket = await new Promise((done, failed) => {
  const scheme = location.protocol === 'https:' ? 'wss://' : 'ws://'
  const socket = new WebSocket(scheme + location.host + '/socket/via')
  const heard = []
  socket.onopen = () => socket.send('hello')
  socket.onmessage = event => { if (heard.push(event.data) === 2) { done(heard); socket.close() } }
  socket.onerror = failed
})
show()
await tell(said)
</script>`

const server = http.createServer(async (request, response) => {
  const url = new URL(request.url, 'http://localhost')
  if (url.pathname === '/') {
    response.setHeader('Content-Type', 'text/html')
    return response.end(page)
  }
  if (url.pathname === '/large') {
    return response.end('0123456789'.repeat(Math.ceil(url.searchParams.get('bytes') / 10)))
  }
  if (url.pathname === '/events') {
    response.setHeader('Content-Type', 'text/event-stream')
    for (const n of [1, 2, 3]) {
      response.write(`data: ${n}\n\n`)
      await new Promise(next => setTimeout(next, 20))
    }
    return // the client closes
  }
  if (url.pathname === '/said') {
    request.on('data', data => process.stdout.write(data))
    return request.on('end', () => { process.stdout.write('\n'); response.end() })
  }
  const hash = createHash('sha256')
  let length = 0
  try {
    for await (const part of request) {
      hash.update(part)
      length += part.length
    }
  } catch {
    return // it was broken off
  }
  response.setHeader('Content-Type', 'application/json')
  const { method, headers } = request
  response.end(JSON.stringify({ method, length, sha256: hash.digest('hex'), headers }))
})
server.listen(0, '127.0.0.1', () => console.log(`127.0.0.1:${server.address().port}`))

// Node's fetch (undici) as a client of the address in its arguments.
import assert from 'node:assert'

const base = process.argv[2]
const json = async (path, options) => (await fetch(base + path, options)).json()

for (let n = 0; n < 50; n++) assert.equal((await json('/echo?' + n)).method, 'GET')
const large = Buffer.alloc(3_000_000, 'abc')
assert.equal((await json('/echo', { method: 'PUT', body: large })).length, large.length)
const stream = new ReadableStream({
  start(controller) {
    for (let n = 0; n < 100; n++) controller.enqueue(Buffer.alloc(10_000, 'x'))
    controller.close()
  }
})
const streamed = await json('/echo', { method: 'POST', body: stream, duplex: 'half' })
assert.equal(streamed.length, 1_000_000)
assert.equal((await fetch(base + '/echo', { method: 'HEAD' })).status, 200)
const many = await Promise.all([...Array(64).keys()].map(n => fetch(`${base}/large?bytes=${n * 10}`)))
assert.deepEqual((await Promise.all(many.map(m => m.text()))).map(t => t.length), [...Array(64).keys()].map(n => n * 10))
const aborted = new AbortController()
const download = await fetch(base + '/large?bytes=50000000', { signal: aborted.signal })
await download.body.getReader().read()
aborted.abort()
assert.equal((await json('/echo')).method, 'GET')
console.log('ok')

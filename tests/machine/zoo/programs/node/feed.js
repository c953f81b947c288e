// Feeds worker.js, and counts in /tmp/paint which jobs are done.
const fs = require('node:fs')
const { Queue, QueueEvents } = require('bullmq')
const connection = { host: '127.0.0.1', port: 6379, maxRetriesPerRequest: null }

const queue = new Queue('paint', { connection })
const events = new QueueEvents('paint', { connection })
const done = new Set()
let n = 0
events.on('completed', ({ jobId }) => {
  done.add(jobId)
  fs.writeFileSync('/tmp/paint', `${done.size}`)
})
events.waitUntilReady().then(() => setInterval(() => queue.add('cars', { n: ++n }), 20))

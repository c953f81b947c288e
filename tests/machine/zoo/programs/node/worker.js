// A queue's consumer, and with an argument what feeds it and counts what is done.
const { Queue, QueueEvents, Worker } = require('bullmq')
const connection = { host: '127.0.0.1', port: 6379, maxRetriesPerRequest: null }

new Worker('paint', async (job) => `painted ${job.data.n}`, {
  connection,
  concurrency: 4,
  stalledInterval: 1000,
  lockDuration: 2000,
  removeOnComplete: { count: 0 },
})

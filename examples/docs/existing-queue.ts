import { Queue, QueueEvents, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { Tollgate } from '../../src/index.js'

const connection = new Redis(process.env['REDIS_URL'] ?? 'redis://localhost:6379', { maxRetriesPerRequest: null })
const tollgate = await Tollgate.open({ rules: [{ name: 'account', scope: 'agent', limits: [{ requests: 100, per: 'second' }, { concurrency: 1 }] }] })

// Before: new Worker('emails', send, { connection, concurrency: 5 })
const send = async (job: { data: { to: string } }) => `sent to ${job.data.to}`
const gated = tollgate.gateProcessor(send, { callOf: () => ({ agent: 'mail', cost: { requests: 1 } }) })
const worker = new Worker('emails', gated, { connection, concurrency: 5 })

const queue = new Queue('emails', { connection })
const events = new QueueEvents('emails', { connection })
const jobs = await queue.addBulk(['ann', 'bob', 'eve'].map((to) => ({ name: 'welcome', data: { to }, opts: { removeOnComplete: { age: 60 } } })))
for (const job of jobs) console.log(await job.waitUntilFinished(events))

await worker.close()
await events.close()
await queue.close()
await tollgate.close()
connection.disconnect()

import { Queue, QueueEvents } from 'bullmq'
import { Redis } from 'ioredis'
import { Tollgate } from '../../src/index.js'

const tollgate = await Tollgate.open({
  rules: [{ name: 'account', scope: 'agent', strategy: 'hard', limits: [{ requests: 2, per: 'day', algorithm: 'fixed_window' }] }],
})
tollgate.worker(async ({ agent, payload }) => `${agent}: ${JSON.stringify(payload)}`)

// This producer knows nothing of Tollgate but the queue's name and prefix: tollgate.queue, tollgate.prefix.
const connection = new Redis(process.env['REDIS_URL'] ?? 'redis://localhost:6379', { maxRetriesPerRequest: null })
const queue = new Queue('calls', { connection, prefix: '{tollgate:default}' })
const events = new QueueEvents('calls', { connection, prefix: '{tollgate:default}' })

const first = await queue.add('openai', { text: 'hello' })
console.log(await first.waitUntilFinished(events))
const second = await queue.add('summarise', { agent: 'openai', user: 'ada', payload: 'a text' })
console.log(await second.waitUntilFinished(events))
const third = await queue.add('openai', { text: 'hello' })
await third.waitUntilFinished(events).catch((error) => console.log(error.message))

await events.close()
await queue.close()
await tollgate.close()
connection.disconnect()

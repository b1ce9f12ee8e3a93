import { Queue } from 'bullmq'
import { Tollgate } from '../../src/index.js'

// Before: new Worker('emails', send, { connection, limiter: { max: 2, duration: 60_000 } })
const tollgate = await Tollgate.open({
  queue: 'emails',
  rules: [{ name: 'mail', scope: 'org', limits: [{ requests: 2, per: 'minute', algorithm: 'fixed_window' }] }],
})
const sent: string[] = []
const worker = tollgate.worker(async ({ payload }) => void sent.push((payload as { to: string }).to), {
  callOf: ({ data }) => ({ agent: 'mail', org: data.org, payload: data, cost: { requests: 1 } }),
})

// The producer stays as it is, but for the prefix.
const queue = new Queue('emails', { connection: { url: process.env['REDIS_URL'] ?? 'redis://localhost:6379' }, prefix: tollgate.prefix })
const jobs = ['ann', 'bob', 'eve', 'dan'].map((to, n) => ({ name: 'welcome', data: { to, org: n < 3 ? 'acme' : 'initech' } }))
const added = await queue.addBulk(jobs)

// The third mail of acme waits for the next minute; that of initech does not wait for it.
while (sent.length < 3) await new Promise((resolve) => setTimeout(resolve, 20))
console.log(sent.includes('dan'), sent.length)
for (const { id } of added) await tollgate.cancel(id as string)
await worker.close()
await queue.close()
await tollgate.close()

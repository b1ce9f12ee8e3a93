import { Queue, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { type RuleSpec, Tollgate } from '../src/index.js'
import { serve } from './lib/processes.js'

// Runs the jobs of a queue filled before, with Tollgate or with plain BullMQ, and answers the rate.
const options = JSON.parse(process.argv[2] ?? '{}') as { redis: string; namespace: string; concurrency: number }
const ROOMY = 1e12
const rules: RuleSpec[] = (['user', 'team', 'org'] as const).map((scope) => ({
  name: scope,
  scope,
  limits: ['minute', 'hour', 'day'].map((per) => ({ tokens: ROOMY, per })),
}))
const tollgate = await Tollgate.open({ redis: options.redis, namespace: options.namespace, rules })
const redis = new Redis(options.redis, { maxRetriesPerRequest: null })
const queue = new Queue('calls', { connection: redis, prefix: tollgate.prefix })

async function fill(jobs: number): Promise<void> {
  const batch = 1000
  for (let from = 0; from < jobs; from += batch) {
    await queue.addBulk(
      Array.from({ length: Math.min(batch, jobs - from) }, (_, index) => ({
        name: 'call',
        data: { agent: 'a', user: `u${index % 100}`, team: `t${index % 10}`, org: `o${index % 3}`, cost: { tokens: 1000 } },
        opts: { removeOnComplete: true },
      })),
    )
  }
}

async function runJobs(gated: boolean, jobs: number): Promise<number> {
  await fill(jobs)
  let done = 0
  let finish: () => void = () => {}
  const finished = new Promise<void>((resolve) => {
    finish = resolve
  })
  const count = () => {
    done++
    if (done === jobs) finish()
  }
  const begin = performance.now()
  if (gated) {
    const worker = tollgate.worker(async () => ({ usage: { tokens: 900 } }), { concurrency: options.concurrency })
    worker.bull.on('completed', count)
    await finished
    const took = performance.now() - begin
    await worker.close()
    return jobs / (took / 1000)
  }
  const worker = new Worker('calls', async () => ({ usage: { tokens: 900 } }), { connection: redis, prefix: tollgate.prefix, concurrency: options.concurrency })
  worker.on('completed', count)
  await finished
  const took = performance.now() - begin
  await worker.close()
  return jobs / (took / 1000)
}

serve(
  {
    ready: () => null,
    gated: (jobs) => runJobs(true, jobs as number),
    plain: (jobs) => runJobs(false, jobs as number),
  },
  async () => {
    await queue.obliterate({ force: true })
    await queue.close()
    await tollgate.close()
    await redis.quit()
  },
)

import { Queue, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { pino } from 'pino'
import { type RuleSpec, Tollgate } from '../src/index.js'
import { batchedBackend } from '../src/queue/batched-backend.js'
import { serve } from './lib/processes.js'
import { redisCpuMicros } from './lib/redis-cpu.js'

/** Of one run: jobs a second, and µs of CPU per job in this process and in Redis. */
export interface Cost {
  readonly rate: number
  readonly node: number
  readonly redis: number
}

/** BullMQ's worker; the same with ends in batches; Tollgate's; the same without batches. */
export type Kind = 'plain' | 'batched' | 'gated' | 'gated-one'

// Runs the jobs of a queue filled before, and answers what they cost.
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
const handler = async () => ({ usage: { tokens: 900 } })

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

function start(kind: Kind): { readonly bull: Worker; close(): Promise<void> } {
  const { concurrency } = options
  if (kind === 'gated' || kind === 'gated-one') return tollgate.worker(handler, { concurrency, finishInBatches: kind === 'gated' })
  const bullOptions = { connection: redis, prefix: tollgate.prefix, concurrency, lockDuration: 30_000 }
  const log = pino({ level: 'silent' })
  const bull = kind === 'plain' ? new Worker('calls', handler, bullOptions) : new Worker('calls', handler, bullOptions, batchedBackend(redis, log, bullOptions))
  return { bull, close: () => bull.close() }
}

async function run(kind: Kind, jobs: number): Promise<Cost> {
  await fill(jobs)
  let done = 0
  let finish: () => void = () => {}
  const finished = new Promise<void>((resolve) => {
    finish = resolve
  })
  const redisBefore = await redisCpuMicros(redis)
  const nodeBefore = process.cpuUsage()
  const begin = performance.now()
  const worker = start(kind)
  worker.bull.on('completed', () => {
    done++
    if (done === jobs) finish()
  })
  await finished
  const seconds = (performance.now() - begin) / 1000
  const { user, system } = process.cpuUsage(nodeBefore)
  const redisAfter = await redisCpuMicros(redis)
  await worker.close()
  return { rate: jobs / seconds, node: (user + system) / jobs, redis: (redisAfter - redisBefore) / jobs }
}

serve(
  {
    ready: () => null,
    run: (value) => {
      const { kind, jobs } = value as { kind: Kind; jobs: number }
      return run(kind, jobs)
    },
  },
  async () => {
    await queue.obliterate({ force: true })
    await queue.close()
    await tollgate.close()
    await redis.quit()
  },
)

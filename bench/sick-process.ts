import { setTimeout as sleep } from 'node:timers/promises'
import { Queue } from 'bullmq'
import { Redis } from 'ioredis'
import { pino } from 'pino'
import { type Call, Tollgate } from '../src/index.js'
import { serve } from './lib/processes.js'

// A participant that falls sick: an app that dies, or a worker that is busy, or whose connections break.
const { redis, namespace, queue, leaseMs } = JSON.parse(process.argv[2] ?? '{}') as { redis: string; namespace: string; queue: string; leaseMs: number }
const client = new Redis(redis, { maxRetriesPerRequest: null, retryStrategy: () => 20 })
client.on('error', () => {})
const tollgate = await Tollgate.open({ redis: client, namespace, queue, logger: pino({ level: 'silent' }) })
const startsMs: number[] = []

const callsTo = (agent: string, count: number): Call[] => Array.from({ length: count }, () => ({ agent }))

function work({ concurrency, ms }: { concurrency: number; ms: number }): Promise<null> {
  const worker = tollgate.worker(
    async ({ agent }) => {
      if (agent === 'a') startsMs.push(performance.timeOrigin + performance.now())
      await sleep(ms)
    },
    { concurrency, leaseMs },
  )
  return worker.bull.waitUntilReady().then(() => null)
}

/** Dies when the front door has answered, before the jobs of its calls are added. */
function dieInEnqueue(count: number): void {
  Queue.prototype.addBulk = () => {
    process.kill(process.pid, 'SIGKILL')
    return new Promise(() => {})
  }
  void tollgate.enqueueMany(callsTo('a', count))
}

/** Dies a moment after it began. */
function dieSoon({ count, afterMs }: { count: number; afterMs: number }): void {
  void tollgate.enqueueMany(callsTo('a', count))
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), afterMs)
}

/** Cancels the calls of its queue that still wait. */
async function cancelAll(): Promise<null> {
  const waiting = await new Queue(queue, { connection: client, prefix: tollgate.prefix }).getJobs(['delayed', 'wait', 'prioritized'])
  await Promise.all(waiting.map(({ id = '' }) => tollgate.cancel(id).catch(() => false)))
  return null
}

serve(
  {
    ready: () => null,
    enqueue: async ({ agent, count }: { agent: string; count: number }) => (await tollgate.enqueueMany(callsTo(agent, count))).length,
    work,
    dieInEnqueue,
    dieSoon,
    cancelAll,
    flap: (everyMs: number) => void setInterval(() => client.disconnect(true), everyMs),
    starts: () => startsMs,
  } as Record<string, (value: unknown) => unknown>,
  () => tollgate.close(),
)

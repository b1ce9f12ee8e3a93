import { randomUUID } from 'node:crypto'
import {
  type BackendFactory,
  createRedisBackend,
  FlowProducer,
  type Job,
  type JobsOptions,
  Queue,
  QueueEvents,
  type RedisQueueBackend,
  UnrecoverableError,
} from 'bullmq'
import { Redis } from 'ioredis'
import { pino } from 'pino'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { batchedBackend } from '../../src/queue/batched-backend.js'
import { PersistentWorker } from '../../src/queue/bull-worker.js'
import { removeKeys } from '../support/bull-state.js'
import { until } from '../support/until.js'

let redis: Redis
beforeAll(async () => {
  redis = new Redis(inject('redisUrl'), { maxRetriesPerRequest: null })
  await redis.ping()
})
afterAll(() => redis.disconnect())

/** A queue with a worker on one of the two backends. */
interface Setting {
  readonly queue: Queue
  readonly prefix: string
  readonly start: (concurrency?: number) => PersistentWorker
  readonly until: (what: string, condition: () => boolean | Promise<boolean>) => Promise<void>
}

/** What a scenario has done, for both backends to agree on. */
type Outcome = unknown

const OPTIONS = { name: 'w', lockDuration: 30_000, removeOnComplete: { age: 3600 } }

async function work(job: Job): Promise<unknown> {
  if (job.name === 'fails') throw new Error('failed')
  if (job.name === 'fails for good') throw new UnrecoverableError('failed for good')
  if (job.name === 'fails once' && job.attemptsMade === 0) throw new Error('failed once')
  if (job.name === 'parent') return { children: Object.values(await job.getChildrenValues()).sort() }
  return { done: job.id }
}

/** Runs a scenario on one backend, and tells what it left: results, states, events. */
async function outcomeOn(
  factory: (options: typeof OPTIONS) => BackendFactory<RedisQueueBackend>,
  scenario: (setting: Setting) => Promise<Outcome>,
  more: object,
) {
  const prefix = `{t-${randomUUID()}}`
  const queue = new Queue('q', { connection: redis, prefix })
  const workers: PersistentWorker[] = []
  const options = { ...OPTIONS, ...more }
  const start = (concurrency = 20) => {
    const worker = new PersistentWorker('q', work, { connection: redis, prefix, concurrency, ...options }, factory(options))
    worker.on('error', () => {})
    workers.push(worker)
    return worker
  }
  try {
    const told = await scenario({ queue, prefix, start, until })
    const jobs = await queue.getJobs(['completed', 'failed', 'delayed', 'wait', 'prioritized', 'waiting-children'])
    const ended = jobs.map(({ id, name, returnvalue, failedReason, attemptsMade, attemptsStarted, processedBy, finishedOn, stacktrace }) => {
      return {
        id: id?.replace(/\d{13}/, '<time>'),
        name,
        returnvalue,
        failedReason,
        attemptsMade,
        attemptsStarted,
        processedBy,
        ended: finishedOn !== undefined,
        traces: stacktrace?.length,
      }
    })
    const events = await redis.xrange(`${prefix}:q:events`, '-', '+')
    const ofJobs = new Map<string, string[]>()
    for (const [, fields] of events) {
      const text = (fields as string[]).join(' ').replaceAll(/\d{13}/g, '<time>')

      const id = / jobId (\S+)/.exec(text)?.[1] ?? 'queue'
      ofJobs.set(id, [...(ofJobs.get(id) ?? []), text])
    }
    // How often a queue runs empty depends on when its jobs end.
    ofJobs.set('queue', [...new Set(ofJobs.get('queue'))])
    const byId = <Entry extends { readonly id?: string | undefined }>(one: Entry, other: Entry) => String(one.id).localeCompare(String(other.id))
    const sorted = [...ofJobs].sort(([one], [other]) => one.localeCompare(other))
    const outcome = { told, ended: ended.sort(byId), counts: await queue.getJobCounts(), events: sorted }
    return JSON.parse(JSON.stringify(outcome).replaceAll(prefix, '<prefix>')) as typeof outcome
  } finally {
    await Promise.all(workers.map((worker) => worker.close()))
    await queue.close()
    await removeKeys(redis, prefix)
  }
}

function batched(options: typeof OPTIONS) {
  return batchedBackend(redis, pino({ level: 'silent' }), options)
}

/** Counts the jobs that a worker says it has completed. */
function counted(worker: PersistentWorker): () => number {
  let done = 0
  worker.on('completed', () => done++)
  return () => done
}

/** @param more options of the worker */
async function same(scenario: (setting: Setting) => Promise<Outcome>, more: object = {}) {
  const bull = await outcomeOn(() => createRedisBackend, scenario, more)
  const ours = await outcomeOn(batched, scenario, more)
  expect(ours).toEqual(bull)
  return ours
}

function many(count: number, name: string, opts: (index: number) => JobsOptions = () => ({})) {
  return Array.from({ length: count }, (_, index) => ({ name, data: { index }, opts: { jobId: `${name.replaceAll(' ', '-')}-${index}`, ...opts(index) } }))
}

const finished = (queue: Queue, count: number) => async () => (await queue.getJobCountByTypes('completed', 'failed')) === count

test('many plain jobs', async () => {
  const { counts } = await same(async ({ queue, start, until }) => {
    await queue.addBulk(many(200, 'plain'))
    start()
    await until('all have completed', finished(queue, 200))
  })
  expect(counts).toMatchObject({ completed: 200, active: 0, waiting: 0 })
})

test('jobs that fail, are tried again with a backoff, and fail for good, among others', async () => {
  const { ended } = await same(async ({ queue, start, until }) => {
    await queue.addBulk(many(20, 'plain'))
    await queue.addBulk(many(5, 'fails'))
    await queue.addBulk(many(5, 'fails for good', () => ({ attempts: 3 })))
    await queue.addBulk(many(5, 'fails once', () => ({ attempts: 3, backoff: { type: 'fixed', delay: 50 } })))
    start()
    await until('all have ended', finished(queue, 35))
  })
  expect(ended.filter(({ name }) => name === 'fails once').map(({ attemptsMade }) => attemptsMade)).toEqual([2, 2, 2, 2, 2])
})

test('flows: parents run after their children, with their results', async () => {
  const { ended } = await same(async ({ queue, prefix, start, until }) => {
    const flows = new FlowProducer({ connection: redis, prefix })
    const child = (parent: number, n: number) => ({ name: 'child', queueName: 'q', opts: { jobId: `child-${parent}-${n}` } })
    const parents = [0, 1, 2, 3].map((n) => ({
      name: 'parent',
      queueName: 'q',
      opts: { jobId: `parent-${n}` },
      children: [child(n, 0), child(n, 1), child(n, 2)],
    }))
    await flows.addBulk(parents)
    await queue.addBulk(many(20, 'plain'))
    await flows.close()
    start()
    await until('all have completed', finished(queue, 36))
  })
  expect(ended.find(({ id }) => id === 'parent-2')?.returnvalue).toEqual({ children: [0, 1, 2].map((n) => ({ done: `child-2-${n}` })) })
})

test('a child that fails its parent, and one that does not', async () => {
  await same(async ({ queue, prefix, start, until }) => {
    const flows = new FlowProducer({ connection: redis, prefix })
    const flow = (n: number, opts: JobsOptions) => ({
      ...{ name: 'plain', queueName: 'q', opts: { jobId: `parent-${n}` } },
      children: [
        { name: 'fails', queueName: 'q', opts: { jobId: `bad-${n}`, ...opts } },
        { name: 'plain', queueName: 'q', opts: { jobId: `good-${n}` } },
      ],
    })
    await flows.addBulk([flow(0, { failParentOnFailure: true }), flow(1, { ignoreDependencyOnFailure: true }), flow(2, { removeDependencyOnFailure: true })])
    await flows.close()
    start(1)
    await until('all have ended', finished(queue, 9))
  })
})

test('priorities and last-in-first-out keep their order', async () => {
  const order = async ({ queue, start, until }: Setting) => {
    await queue.addBulk([...many(6, 'plain'), ...many(6, 'urgent', (n) => ({ priority: 1 + (n % 3) })), ...many(6, 'last', () => ({ lifo: true }))])
    const worker = start(1)
    const seen: (string | undefined)[] = []
    worker.on('completed', ({ id }) => seen.push(id))
    await until('all have completed', finished(queue, 18))
    await until('all are told', () => seen.length === 18)
    return seen
  }
  const { told } = await same(order)
  expect((told as string[])[0]).toBe('last-5')
})

test('delayed jobs, those that become due while others run among them', async () => {
  await same(async ({ queue, start, until }) => {
    await queue.addBulk([...many(50, 'plain'), ...many(20, 'later', (n) => ({ delay: 1 + n * 5 })), ...many(1, 'much later', () => ({ delay: 3_600_000 }))])
    start(3)
    await until('all that are due have completed', finished(queue, 70))
  })
})

test('deduplicated jobs, and one that replaces them at their end', async () => {
  await same(async ({ queue, start, until }) => {
    for (const n of [0, 1, 2, 3]) await queue.add('plain', {}, { jobId: `d-${n}`, deduplication: { id: 'simple' } })
    await queue.add('plain', {}, { jobId: 'l-0', deduplication: { id: 'last', keepLastIfActive: true } })
    await queue.addBulk(many(10, 'plain'))
    start()
    await until('all have completed', finished(queue, 12))
    await queue.add('plain', {}, { jobId: 'd-4', deduplication: { id: 'simple' } })
    await until('the next one has completed', finished(queue, 13))
  })
})

test('a scheduler goes on making jobs', async () => {
  const { told } = await same(async ({ queue, start, until }) => {
    // BullMQ makes the next job at a full second: not while the one before is being completed, or which is told first is chance.
    await until('a second has just begun', () => Date.now() % 1000 < 100)
    await queue.upsertJobScheduler('s', { every: 1000, limit: 3 }, { name: 'scheduled', opts: { removeOnComplete: true } })
    const done = counted(start())
    await until('three have completed', () => done() === 3)
    await until('none is left', async () => (await queue.getJobCountByTypes('delayed', 'wait', 'active')) === 0)
    return done()
  })
  expect(told).toBe(3)
})

test('completed jobs are removed', async () => {
  const { counts } = await same(async ({ queue, start, until }) => {
    await queue.addBulk(many(60, 'plain', () => ({ removeOnComplete: true })))
    const done = counted(start(4))
    await until('all have completed', () => done() === 60)
  })
  expect(counts).toMatchObject({ completed: 0, active: 0, waiting: 0 })
})

test.each([
  ['a number', 5],
  ['a number of those of a time', { age: 3600, count: 5 }],
])('completed jobs are kept: %s', async (_, removeOnComplete) => {
  const kept = async ({ queue, start, until }: Setting) => {
    await queue.addBulk(many(60, 'plain', () => ({ removeOnComplete })))
    const done = counted(start(4))
    await until('all have completed', () => done() === 60)
    return queue.getCompletedCount()
  }
  // Which ones are kept depends on the ms in which they end.
  const told = await Promise.all([createRedisBackend, batched(OPTIONS)].map((factory) => outcomeOn(() => factory, kept, {})))
  expect(told.map((outcome) => outcome.told)).toEqual([5, 5])
})

test('the metrics of a worker count every job', async () => {
  const { told } = await same(
    async ({ queue, start, until }) => {
      await queue.addBulk([...many(30, 'plain'), ...many(10, 'fails')])
      start()
      await until('all have ended', finished(queue, 40))
      return [(await queue.getMetrics('completed')).meta.count, (await queue.getMetrics('failed')).meta.count]
    },
    { metrics: { maxDataPoints: 10 } },
  )
  expect(told).toEqual([30, 10])
})

test('events reach those who listen, in the order of each job', async () => {
  await same(async ({ queue, prefix, start, until }) => {
    const events = new QueueEvents('q', { connection: redis, prefix })
    await events.waitUntilReady()
    const heard: string[] = []
    events.on('active', ({ jobId }) => heard.push(`active ${jobId}`))
    events.on('completed', ({ jobId, returnvalue }) => heard.push(`completed ${jobId} ${JSON.stringify(returnvalue)}`))
    await queue.addBulk(many(40, 'plain'))
    start()
    await until('all are heard', () => heard.length === 80)
    await events.close()
    return heard.sort()
  })
})

test('a global rate limit, of the queue', async () => {
  const { told } = await same(async ({ queue, start, until }) => {
    await queue.setGlobalRateLimit(10, 300)
    await queue.addBulk(many(25, 'plain'))
    const begin = performance.now()
    start()
    await until('all have completed', finished(queue, 25))
    return performance.now() - begin > 500
  })
  expect(told).toBe(true)
})

test('a rate limit of the worker', async () => {
  await same(
    async ({ queue, start, until }) => {
      await queue.addBulk(many(25, 'plain'))
      const begin = performance.now()
      start()
      await until('all have completed', finished(queue, 25))
      return performance.now() - begin > 500
    },
    { limiter: { max: 10, duration: 300 } },
  )
})

test('a global concurrency that is set while jobs run', async () => {
  await same(async ({ queue, start, until }) => {
    await queue.addBulk(many(200, 'plain'))
    start()
    await until('some have completed', async () => (await queue.getCompletedCount()) > 10)
    await queue.setGlobalConcurrency(2)
    await until('two run at most', async () => (await queue.getActiveCount()) <= 2)
    await until('all have completed', finished(queue, 200))
  })
})

test('a queue that is paused while jobs run hands over none, and goes on when it is resumed', async () => {
  await same(async ({ queue, start, until }) => {
    await queue.addBulk(many(200, 'plain'))
    start()
    await until('some have completed', async () => (await queue.getCompletedCount()) > 10)
    await queue.pause()
    await until('none runs', async () => (await queue.getActiveCount()) === 0)
    await queue.resume()
    await until('all have completed', finished(queue, 200))
  })
})

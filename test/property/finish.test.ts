import { createRedisBackend } from 'bullmq'
import fc from 'fast-check'
import { Redis } from 'ioredis'
import { pino } from 'pino'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { batchedBackend } from '../../src/queue/batched-backend.js'
import { type ActiveJob, ActiveQueue, type QueueSpec } from '../support/active-queue.js'

let redis: Redis
beforeAll(async () => {
  redis = new Redis(inject('redisUrl'), { maxRetriesPerRequest: null })
  await redis.ping()
})
afterAll(() => redis.disconnect())

const FINISH = { name: 'w', lockDuration: 30_000, removeOnComplete: { age: 50 } }

/** The kinds of jobs that the client sees to be none for a batch, and those that the script sees. */
const SEEN_BEFORE: readonly ActiveJob['kind'][] = ['child', 'orphan', 'deduplicated', 'replaced']
const SEEN_IN_SCRIPT: readonly ActiveJob['kind'][] = ['parent', 'failed-child']

/** The places of a spec's active jobs in the order in which a batch completes them. */
function orderOf({ active }: QueueSpec): number[] {
  const rank = (kind: ActiveJob['kind']) => (SEEN_BEFORE.includes(kind) ? 0 : SEEN_IN_SCRIPT.includes(kind) ? 2 : 1)
  return [...active.keys()].sort((one, other) => rank((active[one] as ActiveJob).kind) - rank((active[other] as ActiveJob).kind) || one - other)
}

/** Completes the jobs of two equal queues, of one by BullMQ one after the other, of the other one in batches: they must not differ. */
async function compare(spec: QueueSpec): Promise<void> {
  const bull = await ActiveQueue.create(redis, spec, createRedisBackend)
  const ours = await ActiveQueue.create(redis, spec, batchedBackend(redis, pino({ level: 'silent' }), FINISH))
  try {
    expect(await ours.state()).toEqual(await bull.state())
    const order = orderOf(spec)
    const places = [...spec.active.keys()]
    const answers = await bull.complete(order)
    const batched = await ours.complete(places)
    expect(order.map((place) => batched[place])).toEqual(answers)
    expect(await ours.state()).toEqual(await bull.state())
    // As a connection does that has lost the reply.
    expect(await ours.complete(places)).toEqual((await bull.complete(order)).map((_, index, again) => again[order.indexOf(index)]))
    expect(await ours.state()).toEqual(await bull.state())
  } finally {
    await bull.end()
    await ours.end()
  }
}

const value = fc.constantFrom(undefined, null, { usage: { tokens: 9 } }, 'é"\\/ \u0000\ud83d\ude00', 1.5, [])
const keep = fc.constantFrom<ActiveJob['keep']>(
  undefined,
  true,
  false,
  0,
  1,
  2,
  { count: 1 },
  { age: 50 },
  { age: 0 },
  { age: 50, count: 2 },
  { age: 50, limit: 1 },
)
const active = (kinds: readonly ActiveJob['kind'][]) => fc.record({ kind: fc.constantFrom(...kinds), keep, fetchNext: fc.boolean(), value })
/** Which of several jobs are the newest, and are kept, depends on the ms in which BullMQ completes those that travel in no batch. */
const keepWithoutCount = keep.filter((kept) => (typeof kept === 'object' ? !('count' in kept) : typeof kept !== 'number' || kept === 0))
const sameKeep = (kinds: readonly ActiveJob['kind'][], kept: fc.Arbitrary<ActiveJob['keep']> = keep) =>
  fc.tuple(kept, fc.array(active(kinds), { minLength: 1, maxLength: 8 })).map(([kept, jobs]) => jobs.map((job) => ({ ...job, keep: kept })))
const waiting = fc.array(fc.record({ kind: fc.constantFrom('plain', 'lifo', 'due', 'later', 'urgent', 'idle', 'old-marker') }), { maxLength: 8 })
const maxEvents = fc.constantFrom(undefined, 10_000)

const PLAIN: readonly ActiveJob['kind'][] = ['plain', 'plain', 'plain', 'no-lock', 'other-lock', 'no-job', 'not-active']
const RUNS = 60

test('jobs that are completed in a batch are answered, and leave behind, what BullMQ does for one after the other', async () => {
  const spec = fc.record({
    active: sameKeep(PLAIN),
    waiting,
    old: fc.array(fc.constantFrom('plain', 'child'), { maxLength: 4 }),
    meta: fc.constant('none'),
    maxEvents,
  })
  await fc.assert(fc.asyncProperty(spec as fc.Arbitrary<QueueSpec>, compare), { numRuns: RUNS })
})

test('so are jobs with parents, children and deduplication among them', async () => {
  const kinds = [...PLAIN, ...SEEN_BEFORE, ...SEEN_IN_SCRIPT]
  const spec = fc.record({ active: sameKeep(kinds, keepWithoutCount), waiting, old: fc.constant([]), meta: fc.constant('none'), maxEvents })
  await fc.assert(fc.asyncProperty(spec as fc.Arbitrary<QueueSpec>, compare), { numRuns: RUNS })
})

test('so are the jobs of a queue that is paused, or has a concurrency or a rate of its own', async () => {
  const spec = fc.record({ active: sameKeep(PLAIN), waiting, old: fc.constant([]), meta: fc.constantFrom('paused', 'concurrency', 'rate'), maxEvents })
  await fc.assert(fc.asyncProperty(spec as fc.Arbitrary<QueueSpec>, compare), { numRuns: RUNS })
})

test('old results that a parent still waits for are left to BullMQ, with the next end', async () => {
  const one = { kind: 'plain', keep: { age: 50 }, fetchNext: false, value: 1 } as const
  const spec: QueueSpec = { active: [one, one, one], waiting: [], old: ['awaited', 'plain'], meta: 'none', maxEvents: 10_000 }
  const ours = await ActiveQueue.create(redis, spec, batchedBackend(redis, pino({ level: 'silent' }), FINISH))
  await ours.complete([0, 1])
  expect(await redis.zrange(ours.key('completed'), '0', '-1')).toEqual(['old 0', 'a0', 'a1'])
  await ours.complete([2])
  expect(await redis.zrange(ours.key('completed'), '0', '-1')).toEqual(['a0', 'a1', 'a2'])
  // The parent has no children left that it waits for.
  expect(await redis.lrange(ours.key('wait'), '0', '-1')).toEqual(['p 0'])
  await ours.end()
})

test('an error that one job meets in a batch is answered to that job alone', async () => {
  const one = { kind: 'plain', keep: false, fetchNext: true, value: 1 } as const
  const spec: QueueSpec = {
    active: [one, one, one],
    waiting: [{ kind: 'plain' }, { kind: 'plain' }, { kind: 'plain' }],
    old: [],
    meta: 'none',
    maxEvents: 10_000,
  }
  const ours = await ActiveQueue.create(redis, spec, batchedBackend(redis, pino({ level: 'silent' }), FINISH))
  await redis.hset(ours.key('w1'), 'ats', 'no number')
  const answers = await ours.complete([0, 1, 2])
  expect(answers).toMatchObject([
    { result: [{ name: 'w' }, 'w0', 0, 0] },
    { error: expect.stringContaining('not an integer') },
    { result: [{ name: 'w' }, 'w2', 0, 0] },
  ])
  expect(await redis.zrange(ours.key('completed'), '0', '-1')).toEqual(['a0', 'a1', 'a2'])
  await ours.end()
})

test('without Redis Functions the script is sent by its text, and does the same', async () => {
  const admin = new Redis(inject('redisUrl'), { maxRetriesPerRequest: null })
  const username = `finish-${process.pid}`
  await admin.call('ACL', 'SETUSER', username, 'on', '>secret', '~*', '&*', '+@all', '-fcall', '-function')
  const weak = new Redis(inject('redisUrl'), { maxRetriesPerRequest: null, username, password: 'secret' })
  const one = { kind: 'plain', keep: false, fetchNext: true, value: 1 } as const
  const spec: QueueSpec = { active: [one, one], waiting: [{ kind: 'plain' }], old: [], meta: 'none', maxEvents: 10_000 }
  const ours = await ActiveQueue.create(weak, spec, batchedBackend(weak, pino({ level: 'silent' }), FINISH))
  expect(await ours.complete([0, 1])).toMatchObject([{ result: [{ name: 'w' }, 'w0', 0, 0] }, { result: [] }])
  await ours.end()
  weak.disconnect()
  await admin.call('ACL', 'DELUSER', username)
  admin.disconnect()
})

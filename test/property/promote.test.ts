import { randomUUID } from 'node:crypto'
import { Job, Queue } from 'bullmq'
import fc from 'fast-check'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { Queues } from '../../src/queue/queues.js'
import { recordId } from '../../src/queue/stored-call.js'
import { Keys } from '../../src/redis/keys.js'

let redis: Redis
beforeAll(async () => {
  redis = new Redis(inject('redisUrl'), { maxRetriesPerRequest: null })
  await redis.ping()
})
afterAll(() => redis.disconnect())

interface Spec {
  readonly jobs: readonly { readonly kind: 'delayed' | 'urgent' | 'later' | 'waiting' | 'gone' }[]
  readonly meta: 'none' | 'paused' | 'full' | 'has room'
  readonly oldMarker: boolean
}

/** A queue with jobs j0, j1, …, two of which may be the same place in the order of priorities. */
async function filled(keys: Keys, { jobs, meta, oldMarker }: Spec): Promise<Queue> {
  const queue = new Queue('calls', { connection: redis, prefix: keys.prefix })
  await queue.waitUntilReady()
  for (const [n, { kind }] of jobs.entries()) {
    if (kind === 'gone') continue
    const delay = kind === 'waiting' ? {} : { delay: 600_000 + n }
    const priority = kind === 'urgent' ? { priority: 1 } : kind === 'later' ? { priority: 7 } : {}
    await queue.add('call', {}, { jobId: `j${n}`, ...delay, ...priority })
  }
  if (meta === 'paused') await redis.hset(queue.toKey('meta'), 'paused', '1')
  if (meta === 'full' || meta === 'has room') await redis.hset(queue.toKey('meta'), 'concurrency', '2')
  await redis.rpush(queue.toKey('active'), 'a1', ...(meta === 'full' ? ['a2'] : []))
  if (oldMarker) await redis.lpush(queue.toKey('wait'), '0:7')
  await redis.del(queue.toKey('marker'))
  return queue
}

async function state(queue: Queue, { jobs }: Spec): Promise<object> {
  const key = (name: string) => queue.toKey(name)
  const events = await redis.xrange(key('events'), '-', '+')
  return {
    wait: await redis.lrange(key('wait'), '0', '-1'),
    delayed: await redis.zrange(key('delayed'), '0', '-1'),
    prioritized: await redis.zrange(key('prioritized'), '0', '-1', 'WITHSCORES'),
    counter: await redis.get(key('pc')),
    marker: await redis.zrange(key('marker'), '0', '-1', 'WITHSCORES'),
    // Those of the delay name its end.
    events: events.map(([, fields]) => fields).filter((fields) => !fields.includes('delay')),
    delays: await Promise.all(jobs.map((_, n) => redis.hget(key(`j${n}`), 'delay'))),
  }
}

function promoteByBull(queue: Queue, jobId: string): Promise<boolean> {
  return new Job(queue, '', null, {}, jobId).promote().then(
    () => true,
    () => false,
  )
}

const spec = fc.record({
  jobs: fc.array(fc.record({ kind: fc.constantFrom('delayed', 'delayed', 'urgent', 'later', 'waiting', 'gone') }), { minLength: 1, maxLength: 8 }),
  meta: fc.constantFrom('none', 'paused', 'full', 'has room'),
  oldMarker: fc.boolean(),
}) as fc.Arbitrary<Spec>

test('jobs that are promoted by one script leave behind what BullMQ does for one after the other', async () => {
  await fc.assert(
    fc.asyncProperty(spec, async (one) => {
      const [theirs, ours] = [new Keys(`p-${randomUUID()}`), new Keys(`p-${randomUUID()}`)]
      const [bull, batched] = [await filled(theirs, one), await filled(ours, one)]
      const queues = new Queues(redis, ours)
      try {
        expect(await state(batched, one)).toEqual(await state(bull, one))
        const answers: boolean[] = []
        for (const n of one.jobs.keys()) answers.push(await promoteByBull(bull, `j${n}`))
        const ids = [...one.jobs.keys()].map((n) => recordId('calls', `j${n}`))
        expect(await queues.promote(ids)).toEqual(answers)
        expect(await state(batched, one)).toEqual(await state(bull, one))
        // As a connection does that has lost the reply.
        expect(await queues.promote(ids)).toEqual(answers.map(() => false))
        expect(await state(batched, one)).toEqual(await state(bull, one))
      } finally {
        await queues.close()
        for (const queue of [bull, batched]) {
          await queue.obliterate({ force: true })
          await queue.close()
        }
      }
    }),
    { numRuns: 40 },
  )
})

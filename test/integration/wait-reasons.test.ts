import { Queue } from 'bullmq'
import { expect, onTestFinished, test } from 'vitest'
import { type RuleSpec, WAIT_REASONS, type WaitReason } from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'
import { until } from '../support/until.js'

const RULES: RuleSpec[] = [
  { name: 'rate', scope: 'user', match: { users: ['rate'] }, limits: [{ requests: 1, per: 'hour' }] },
  { name: 'budget', scope: 'user', match: { users: ['budget'] }, limits: [{ usd: 1, per: 'hour' }] },
  { name: 'daily', scope: 'user', match: { users: ['daily'] }, limits: [{ requests: 1, per: 'day' }] },
  { name: 'slots', scope: 'user', match: { users: ['slots'] }, limits: [{ concurrency: 1 }] },
]

test('enqueue and explain say in one code what a call waits for, and explain what to do', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  let free = () => {}
  const held = new Promise<void>((resolve) => {
    free = resolve
  })
  tollgate.worker(async (call) => (call.user === 'slots' ? held : null))
  await until('the worker is known', async () => (await namespace.redis.exists(namespace.keys.workers)) === 1)
  const cost = { usd: 1 }
  await tollgate.pause({ user: 'paused' })
  const expected: [string, WaitReason][] = [
    ['rate', 'RATE'],
    ['budget', 'BUDGET'],
    ['daily', 'BUDGET'],
    ['slots', 'CONCURRENCY'],
    ['paused', 'PAUSED'],
  ]
  const ids: string[] = []
  for (const [user, waitsFor] of expected) {
    if (user !== 'paused') await tollgate.enqueue({ agent: user, user, cost })
    const { id, decision } = await tollgate.enqueue({ agent: user, user, cost, id: `id-${user}` })
    expect(decision).toMatchObject({ outcome: 'wait', waitsFor })
    expect(await tollgate.explain(id)).toMatchObject({ state: 'waiting', waitsFor, todo: WAIT_REASONS[waitsFor].todo })
    // Enqueued again it says the same.
    expect((await tollgate.enqueue({ agent: user, user, cost, id })).id).toBe(id)
    ids.push(id)
  }
  await tollgate.capacity.announce({ agent: 'blocked', retryAfterMs: 60_000 })
  const blocked = await tollgate.enqueue({ agent: 'blocked' })
  expect(blocked.decision).toMatchObject({ waitsFor: 'UPSTREAM' })
  expect(await tollgate.explain(blocked.id)).toMatchObject({ waitsFor: 'UPSTREAM' })
  for (const id of [...ids, blocked.id]) await tollgate.cancel(id)
  free()
})

test('a call of a queue that takes none waits for a worker, a free place or the queue', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open()
  const queue = new Queue('calls', { connection: namespace.redis, prefix: tollgate.prefix })
  onTestFinished(() => queue.close())
  const { id } = await tollgate.enqueue({ agent: 'a' })
  expect(await tollgate.explain(id)).toMatchObject({ state: 'woken', waitsFor: 'NO_WORKER' })
  await queue.add('late', {}, { jobId: 'late', delay: 3_600_000 })
  expect(await tollgate.explain('late')).toMatchObject({ state: 'queued', waitsFor: 'DELAYED' })
  const ends: (() => void)[] = []
  tollgate.worker(() => new Promise<void>((resolve) => ends.push(resolve)), { concurrency: 1 })
  await until('it runs', () => ends.length === 1)
  expect(await tollgate.explain(id)).toMatchObject({ state: 'running', waitsFor: null, todo: null })
  const second = await tollgate.enqueue({ agent: 'a' })
  await until('the workers are known to be busy', async () => (await tollgate.explain(second.id)).waitsFor === 'WORKERS_BUSY')
  await queue.pause()
  await until('the queue is known to be paused', async () => (await tollgate.explain(second.id)).waitsFor === 'QUEUE_PAUSED')
  await until('the front door knows it', async () => {
    const { id: next, decision } = await tollgate.enqueue({ agent: 'a' })
    const waits = decision?.outcome === 'wait' && decision.waitsFor === 'QUEUE_PAUSED'
    await tollgate.cancel(next)
    return waits
  })
  await queue.resume()
  await queue.remove('late')
  await until('all run', () => {
    for (const end of ends.splice(0)) end()
    return queue.getCompletedCount().then((count) => count === 2)
  })
})

import { Queue } from 'bullmq'
import { expect, test } from 'vitest'
import { newNamespace } from '../support/namespace.js'
import { until } from '../support/until.js'

test('a call that is enqueued runs, is charged, and its result comes back', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [{ name: 'all', scope: 'agent', limits: [{ requests: 100, per: 'minute' }] }] })
  tollgate.worker(async (call) => ({ echoed: call.payload }))
  const ticket = await tollgate.enqueue({ agent: 'openai', payload: { text: 'hello' } })
  expect(ticket.decision?.outcome).toBe('run')
  expect(await ticket.result()).toEqual({ echoed: { text: 'hello' } })
  expect((await tollgate.gate.peek({ agent: 'openai' })).usage[0]?.used).toBeCloseTo(1, 0)
})

test('a job that a plain BullMQ queue added is gated too', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({
    rules: [{ name: 'all', scope: 'agent', limits: [{ requests: 2, per: 'hour', algorithm: 'fixed_window' }], strategy: 'hard' }],
  })
  const queue = new Queue('calls', { connection: namespace.redis, prefix: tollgate.prefix })
  let ran = 0
  tollgate.worker(async () => void ran++)
  const jobs = await queue.addBulk(Array.from({ length: 3 }, () => ({ name: 'any', data: { agent: 'openai' } })))
  await until('all jobs have ended', async () => (await queue.getJobCounts('completed', 'failed')).completed === 2)
  await until('one is refused', async () => (await queue.getJobCountByTypes('failed')) === 1)
  expect(ran).toBe(2)
  const failed = (await queue.getFailed())[0]
  expect(failed?.failedReason).toMatch(/^RATE_LIMIT_EXCEEDED: no room \(rule all, limit requests\/hour, openai\)/)
  expect(jobs).toHaveLength(3)
  await queue.close()
})

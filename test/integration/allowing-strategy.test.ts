import { describe, expect, test } from 'vitest'
import type { LimitSpec, RejectDecision, RuleSpec } from '../../src/index.js'
import { TEST_ALGORITHMS } from '../../testing/session-window.js'
import { newNamespace } from '../support/namespace.js'
import { codeOf } from '../support/place.js'

const strategies = { vip: (decision: RejectDecision, call: { user?: string | undefined }) => (call.user === 'vip' ? { outcome: 'allow' as const } : decision) }

function rule(limit: LimitSpec, more: Partial<RuleSpec> = {}): RuleSpec {
  return { name: 'scarce', scope: 'agent', strategy: 'custom:vip', limits: [limit], ...more }
}

describe.each<[string, LimitSpec]>([
  ['a token bucket', { requests: 2, per: 'hour' }],
  ['a leaky bucket', { requests: 1, per: 'hour', algorithm: 'leaky_bucket' }],
  ['a fixed window', { requests: 2, per: 'hour', algorithm: 'fixed_window' }],
  ['a sliding window', { requests: 2, per: 'hour', algorithm: 'sliding_window' }],
  ['a sliding log', { requests: 2, per: 'hour', algorithm: 'sliding_log' }],
  ['an algorithm of one’s own', { requests: 2, per: 'hour', algorithm: 'custom:session' }],
])('at %s', (_name, limit) => {
  test('a strategy may let a call start without room, and it is charged', async () => {
    const tollgate = await newNamespace().open({ rules: [rule(limit)], strategies, algorithms: TEST_ALGORITHMS })
    const worker = tollgate.worker(async () => 'done')
    const used = async () => Math.round((await tollgate.gate.peek({ agent: 'a', cost: { requests: 0 } })).usage[0]?.used ?? -1)
    const fits = limit.requests ?? 0
    for (let n = 0; n < fits; n++) await (await tollgate.enqueue({ agent: 'a', user: 'u' })).result()
    expect(await codeOf(tollgate.enqueue({ agent: 'a', user: 'u' }))).toBe('RATE_LIMIT_EXCEEDED')
    const tickets = await tollgate.enqueueMany([
      { agent: 'a', user: 'vip' },
      { agent: 'a', user: 'vip' },
    ])
    expect(tickets.map(({ decision }) => decision?.outcome)).toEqual(['run', 'run'])
    expect(await Promise.all(tickets.map((ticket) => ticket.result()))).toEqual(['done', 'done'])
    expect(await codeOf(tollgate.enqueue({ agent: 'a', user: 'u' }))).toBe('RATE_LIMIT_EXCEEDED')
    // A bucket that is empty stays empty; windows count what is above their limit.
    expect(await used()).toBe(limit.algorithm === undefined || limit.algorithm === 'leaky_bucket' ? fits : fits + 2)
    await worker.close()
  })
})

test('a slot that was allowed above the limit is given back, and others wait for it', async () => {
  const tollgate = await newNamespace().open({ rules: [rule({ concurrency: 1 })], strategies })
  const ends: (() => void)[] = []
  const worker = tollgate.worker(() => new Promise<void>((resolve) => ends.push(resolve)))
  const first = await tollgate.enqueue({ agent: 'a', user: 'u' })
  await expect.poll(() => ends.length).toBe(1)
  const second = await tollgate.enqueue({ agent: 'a', user: 'vip' })
  await expect.poll(() => ends.length).toBe(2)
  expect((await tollgate.gate.peek({ agent: 'a' })).usage[0]?.used).toBe(2)
  for (const end of ends) end()
  await Promise.all([first.result(), second.result()])
  await worker.close()
  expect((await tollgate.gate.peek({ agent: 'a' })).usage[0]?.used).toBe(0)
})

test('what other rules have no room for is theirs to say', async () => {
  const tollgate = await newNamespace().open({
    rules: [rule({ requests: 1, per: 'hour' }), { name: 'hard', scope: 'user', strategy: 'hard', priority: -1, limits: [{ requests: 2, per: 'hour' }] }],
    strategies,
  })
  const worker = tollgate.worker(async () => 'done')
  for (let n = 0; n < 2; n++) expect(await (await tollgate.enqueue({ agent: 'a', user: 'vip' })).result()).toBe('done')
  await expect(tollgate.enqueue({ agent: 'a', user: 'vip' })).rejects.toMatchObject({ code: 'RATE_LIMIT_EXCEEDED', rule: 'hard' })
  await worker.close()
})

import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type RuleSpec, UpstreamLimited } from '../../src/index.js'
import { COST_UNITS } from '../../src/model/cost.js'
import { plainlyValid, validateCall } from '../../src/validation/call.js'
import { newNamespace } from '../support/namespace.js'
import { codeOf } from '../support/place.js'
import { until } from '../support/until.js'

const CLOSED_SOON = [
  {
    name: 'r',
    scope: 'agent',
    limits: [
      { requests: 2, per: 'hour', algorithm: 'fixed_window' as const },
      { tokens: 1e6, per: 'hour' },
    ],
  },
]

test('explain gives the position and the binding limit of a waiting call, and cancelling one frees its place', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: CLOSED_SOON })
  const tickets = await tollgate.enqueueMany(Array.from({ length: 5 }, () => ({ agent: 'llm', cost: { tokens: 10 } })))
  expect(tickets.map(({ decision }) => decision?.outcome)).toEqual(['run', 'run', 'wait', 'wait', 'wait'])
  const [, , third, fourth, fifth] = tickets
  const explained = await tollgate.explain(fourth?.id ?? '')
  expect(explained).toMatchObject({ state: 'waiting', position: 1, binding: { rule: 'r', limit: 'requests/hour', scopeValue: 'llm' } })
  expect(explained.etaMs).toBeGreaterThan(0)
  expect(await tollgate.cancel(third?.id ?? '')).toBe(true)
  expect((await tollgate.explain(fourth?.id ?? '')).position).toBe(0)
  await expect(tollgate.explain(third?.id ?? '')).rejects.toThrow(/CALL_UNKNOWN|no call/)
  for (const ticket of [tickets[0], tickets[1], fourth, fifth]) expect(await tollgate.cancel(ticket?.id ?? '')).toBe(true)
  // Every call gave back its claim: nothing is used, and nothing is claimed.
  const [usage] = (await tollgate.gate.peek({ agent: 'llm' })).usage
  expect(usage).toMatchObject({ used: 0, claimed: 0 })
})

test('a call enqueued twice under one id is one call', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: CLOSED_SOON })
  const first = await tollgate.enqueue({ id: 'mine', agent: 'llm', payload: 1, cost: { tokens: 1 } })
  const second = await tollgate.enqueue({ id: 'mine', agent: 'llm', payload: 2, cost: { tokens: 1 } })
  expect([first.id, second.id, first.decision?.outcome, second.decision]).toEqual(['mine', 'mine', 'run', undefined])
  let ran = 0
  tollgate.worker(async (call) => {
    ran++
    return call.payload
  })
  expect(await Promise.all([first.result(), second.result()])).toEqual([1, 1])
  const third = await tollgate.enqueue({ id: 'mine', agent: 'llm', payload: 3 })
  expect([await third.result(), ran]).toEqual([1, 1])
  expect((await tollgate.gate.peek({ agent: 'llm' })).usage[0]).toMatchObject({ used: 1, claimed: 0 })
})

test('cancelling a running call aborts its handler, and the call stays charged', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: CLOSED_SOON })
  let aborted: unknown
  tollgate.worker(async (_call, { signal }) => {
    signal.addEventListener('abort', () => {
      aborted = signal.reason
    })
    await sleep(60_000, undefined, { signal })
  })
  const ticket = await tollgate.enqueue({ agent: 'llm', cost: { tokens: 10 } })
  await until('it runs', async () => (await tollgate.explain(ticket.id)).state === 'running')
  const result = codeOf(ticket.result())
  expect(await tollgate.cancel(ticket.id)).toBe(true)
  expect(await result).toBe('CALL_CANCELLED')
  expect(aborted).toMatchObject({ code: 'CALL_CANCELLED' })
  expect((await tollgate.gate.peek({ agent: 'llm' })).usage[0]?.used).toBe(1)
  expect(await tollgate.cancel(ticket.id)).toBe(false)
})

test('a call that is cancelled while its worker holds it for its slot never starts', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: CLOSED_SOON })
  const ticket = await tollgate.enqueue({ agent: 'llm', cost: { tokens: 10 } })
  // The time at which it may start is moved into the future, so that its worker must hold it.
  const key = namespace.keys.call(`calls/${ticket.id}`)
  const [kind, place, moves, deadline, slot, ...rest] = ((await namespace.redis.get(key)) ?? '').split(' ')
  await namespace.redis.set(key, [kind, place, moves, deadline, Number(slot) + 1500, ...rest].join(' '), 'KEEPTTL')
  let ran = false
  const worker = tollgate.worker(async () => {
    ran = true
  })
  await until('a worker holds it', async () => (await namespace.redis.exists(`${tollgate.prefix}:calls:${ticket.id}:lock`)) === 1)
  const result = codeOf(ticket.result())
  expect(await tollgate.cancel(ticket.id)).toBe(true)
  expect(await result).toBe('CALL_CANCELLED')
  await worker.close()
  expect(ran).toBe(false)
  expect((await tollgate.gate.peek({ agent: 'llm' })).usage[0]).toMatchObject({ used: 0, claimed: 0 })
})

test('a call that its worker holds starts under the rules that are in force then', async () => {
  const namespace = newNamespace()
  const named = (name: string): RuleSpec => ({ name: 'r', scope: 'agent', limits: [{ name, requests: 10, per: 'day', algorithm: 'fixed_window' }] })
  const tollgate = await namespace.open({ rules: [named('before')] })
  const ticket = await tollgate.enqueue({ agent: 'llm' })
  const key = namespace.keys.call(`calls/${ticket.id}`)
  const [kind, place, moves, deadline, slot, ...rest] = ((await namespace.redis.get(key)) ?? '').split(' ')
  await namespace.redis.set(key, [kind, place, moves, deadline, Number(slot) + 1500, ...rest].join(' '), 'KEEPTTL')
  tollgate.worker(async () => 'done')
  await until('a worker holds it', async () => (await namespace.redis.exists(`${tollgate.prefix}:calls:${ticket.id}:lock`)) === 1)
  await tollgate.rules.apply([named('after')])
  expect(await ticket.result()).toBe('done')
  expect((await tollgate.gate.peek({ agent: 'llm' })).usage).toMatchObject([{ limit: 'after', used: 1 }])
})

test('a handler that exceeds its timeout fails the call at once; its slot comes back when the handler has ended, and its estimate stays charged', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({
    rules: [
      {
        name: 'r',
        scope: 'agent',
        limits: [
          { tokens: 1000, per: 'day', algorithm: 'fixed_window' },
          { concurrency: 1, lease: '1s' },
        ],
      },
    ],
  })
  let end = () => {}
  tollgate.worker(
    () =>
      new Promise<void>((resolve) => {
        end = resolve
      }),
    { timeoutMs: 50 },
  )
  const ticket = await tollgate.enqueue({ agent: 'llm', cost: { tokens: 70 } })
  expect(await codeOf(ticket.result())).toBe('CALL_TIMED_OUT')
  await until('it is settled', async () => (await tollgate.stats.ledger()).open === 0)
  // For longer than a lease.
  for (let n = 0; n < 15; n++) {
    expect((await tollgate.gate.peek({ agent: 'llm', cost: { tokens: 1 } })).usage[1]?.used).toBe(1)
    await sleep(100)
  }
  end()
  await until('its slot is back', async () => (await tollgate.gate.peek({ agent: 'llm', cost: { tokens: 1 } })).usage[1]?.used === 0)
  expect((await tollgate.gate.peek({ agent: 'llm', cost: { tokens: 1 } })).usage[0]?.used).toBe(70)
})

test('usage settles the estimate, of calls that succeed and of calls that fail', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [{ name: 'r', scope: 'agent', limits: [{ tokens: 10_000, per: 'day', algorithm: 'fixed_window' }] }] })
  tollgate.worker(async (call) => {
    if (call.payload === 'fail') throw Object.assign(new Error('no'), { usage: { inputTokens: 5, outputTokens: 2 } })
    return { usage: { inputTokens: 300, outputTokens: 45 } }
  })
  const used = async () => (await tollgate.gate.peek({ agent: 'llm', cost: { tokens: 0 } })).usage[0]?.used
  await (await tollgate.enqueue({ agent: 'llm', cost: { tokens: 1000 } })).result()
  await until('it is settled', async () => (await used()) === 345)
  expect(await codeOf((await tollgate.enqueue({ agent: 'llm', cost: { tokens: 1000 }, payload: 'fail' })).result())).toBe('CALL_FAILED')
  await until('it is settled', async () => (await used()) === 352)
})

test('a grant settles once, and a released one leaves no charge', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [{ name: 'r', scope: 'agent', limits: [{ tokens: 1000, per: 'day', algorithm: 'fixed_window' }] }] })
  const [first, second, refused] = await Promise.all([500, 400, 200].map((tokens) => tollgate.gate.admit({ agent: 'llm', cost: { tokens } })))
  expect([first?.allowed, second?.allowed, refused?.allowed]).toEqual([true, true, false])
  expect(refused).toMatchObject({ limitExceeded: 'r/tokens/day' })
  expect([await first?.settle({ tokens: 50 }), await first?.settle({ tokens: 900 })]).toEqual([true, false])
  expect([await second?.release(), await second?.release(), await second?.settle()]).toEqual([true, false, false])
  const answer = await tollgate.gate.peek({ agent: 'llm', cost: { tokens: 0 } })
  expect(answer).toMatchObject({ allowed: true, remaining: 950 })
})

test('a call that its agent sends back uses no attempt, lets another call try the agent first, and blocks only its own agent', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [{ name: 'r', scope: 'agent', limits: [{ requests: 1000, per: 'second' }] }], attempts: 1 })
  const order: unknown[] = []
  const attempts: number[] = []
  tollgate.worker(
    async (call, { attempt }) => {
      order.push(call.payload)
      attempts.push(attempt)
      if (call.payload === 'first' && order.length === 1) throw new UpstreamLimited({ retryAfterMs: 300 })
    },
    { concurrency: 1 },
  )
  const first = await tollgate.enqueue({ agent: 'a', payload: 'first' })
  await until('its agent has sent it back', async () => order.length === 1 && (await tollgate.gate.peek({ agent: 'a' })).retryAfterMs !== 0)
  const second = await tollgate.enqueue({ agent: 'a', payload: 'second' })
  expect(second.decision).toMatchObject({ outcome: 'wait', binding: { rule: '~block' } })
  const other = await tollgate.enqueue({ agent: 'b', payload: 'other' })
  const model = await tollgate.enqueue({ agent: 'a', model: 'small', payload: 'model' })
  expect([other.decision?.outcome, model.decision?.outcome]).toEqual(['run', 'run'])
  await Promise.all([first.result(), second.result(), other.result(), model.result()])
  expect(order.filter((one) => one === 'first' || one === 'second')).toEqual(['first', 'second', 'first'])
  expect(new Set(attempts)).toEqual(new Set([1]))
})

test('a rule with the strategy hard refuses calls at enqueue, unless a call has another strategy', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [{ name: 'r', scope: 'user', strategy: 'hard', limits: [{ requests: 1, per: 'hour' }] }] })
  await tollgate.enqueue({ agent: 'llm', user: 'u' })
  const [refused] = await tollgate.enqueueMany([{ agent: 'llm', user: 'u' }])
  expect(refused?.error).toMatchObject({ code: 'RATE_LIMIT_EXCEEDED', rule: 'r', limit: 'requests/hour' })
  await expect(tollgate.enqueue({ agent: 'llm', user: 'u' })).rejects.toMatchObject({ code: 'RATE_LIMIT_EXCEEDED' })
  // The strategy of a call goes before that of the rule.
  expect((await tollgate.enqueue({ agent: 'llm', user: 'u', strategy: 'queue' })).decision?.outcome).toBe('wait')
  for (const id of await namespace.redis.zrange(`${tollgate.prefix}:calls:delayed`, '0', '-1')) await tollgate.cancel(id)
  for (const id of await namespace.redis.lrange(`${tollgate.prefix}:calls:wait`, 0, -1)) await tollgate.cancel(id)
})

test('a call that plainlyValid accepts is accepted by the schema too, unchanged', () => {
  const odd = fc.oneof(fc.string(), fc.double(), fc.constantFrom(undefined, null, '', -1, 1e13, Number.NaN), fc.object())
  const name = fc.oneof({ weight: 6, arbitrary: fc.string({ minLength: 1, maxLength: 300 }) }, { weight: 1, arbitrary: odd })
  const cost = fc.oneof(fc.double({ min: 0, max: 1e12, noNaN: true }), odd)
  const call = fc.record(
    { agent: name, user: name, org: name, cost: fc.oneof(odd, fc.dictionary(fc.constantFrom(...COST_UNITS), cost)), payload: odd },
    { requiredKeys: ['agent'] },
  )
  let plain = 0
  fc.assert(
    fc.property(call, (input) => {
      if (!plainlyValid(input)) return
      plain++
      // plainlyValid refuses objects with a prototype, so this copy is checked by the schema.
      const slow = Object.assign(Object.create({}) as object, input)
      expect(plainlyValid(slow)).toBe(false)
      expect(validateCall(slow)).toEqual(input)
    }),
    { numRuns: 3000 },
  )
  expect(plain).toBeGreaterThan(20)
})

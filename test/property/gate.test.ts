import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Call, RuleSpec } from '../../src/index.js'
import { AS_ESTIMATED } from '../../src/model/cost.js'
import { forget, snapshot } from '../support/keys.js'
import { Model } from '../support/model.js'
import { newNamespace } from '../support/namespace.js'
import { runs } from '../support/runs.js'
import { decideBy, givenScriptClient, realScriptClient, requestOf } from '../support/script-client.js'

const RUNS = { numRuns: runs(150) }
const SLACK = 1e-6

const RULES: RuleSpec[] = [
  {
    name: 'account',
    scope: 'agent',
    limits: [
      { requests: 20, per: '10s', burst: 6 },
      { tokens: 3000, per: '10s', burst: 900 },
    ],
  },
  {
    name: 'org',
    scope: 'org',
    limits: [{ requests: 7, per: '5s', algorithm: 'fixed_window' }, { tokens: 1000, per: '20s', algorithm: 'fixed_window' }, { concurrency: 3 }],
  },
  { name: 'user', scope: ['org', 'user'], limits: [{ requests: 2.5, per: 'second', burstMultiplier: 1.5 }] },
]

type Step =
  | { do: 'pass'; ms: number }
  | { do: 'admit'; org: string; user: string; tokens: number }
  | { do: 'settle'; which: number; share: number }
  | { do: 'release'; which: number }

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.oneof(fc.integer({ min: 0, max: 400 }), fc.integer({ min: 0, max: 40_000 })) }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('admit' as const),
      org: fc.constantFrom('a', 'b'),
      user: fc.constantFrom('x', 'y'),
      tokens: fc.integer({ min: 0, max: 1100 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('settle' as const), which: fc.nat(), share: fc.constantFrom(0, 0.5, 1, 2.5) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('release' as const), which: fc.nat() }) },
)

test('the scripts decide as the reference model does, and a refusal changes nothing (invariants 1, 2, 3, 11)', async () => {
  const namespace = newNamespace()
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async (steps) => {
      await forget(namespace)
      const { scriptClient, clock } = givenScriptClient(namespace, RULES)
      const model = new Model(scriptClient.resolver.rules)
      const admitted: { id: string; call: Call }[] = []
      for (const [index, one] of steps.entries()) {
        const id = `c${index}`
        if (one.do === 'pass') clock.advance(one.ms)
        if (one.do === 'admit') {
          const call: Call = { agent: 'llm', org: one.org, user: one.user, cost: { tokens: one.tokens } }
          const before = await snapshot(namespace)
          const [decision] = await scriptClient.check([requestOf(scriptClient, id, call)])
          const expected = model.admit(id, call, clock.nowMs)
          expect(decision?.outcome === 'reject' ? decision.reason : decision?.outcome).toBe(expected.verdict)
          if (decision?.outcome === 'reject') {
            expect(await snapshot(namespace)).toEqual(before)
            if (decision.reason === 'limited' && decision.binding.unit !== 'concurrency') expect(decision.retryAfterMs).toBeCloseTo(expected.waitMs, 2)
          } else admitted.push({ id, call })
          const used = decision?.usage.map((usage) => usage.used) ?? []
          for (const [place, value] of model.used(call, clock.nowMs).entries()) expect(used[place]).toBeCloseTo(value, 6)
        }
        const picked = one.do === 'settle' || one.do === 'release' ? admitted[one.which % Math.max(1, admitted.length)] : undefined
        if (picked !== undefined && one.do === 'settle') {
          const actual = { ...AS_ESTIMATED, tokens: Math.round((picked.call.cost?.tokens ?? 0) * one.share) }
          const [settled] = await scriptClient.settle([{ request: requestOf(scriptClient, picked.id, picked.call), actual }])
          expect(settled).toBe(model.settle(picked.id, actual, clock.nowMs))
        }
        if (picked !== undefined && one.do === 'release') {
          const held = await scriptClient.release(requestOf(scriptClient, picked.id, picked.call))
          expect(held === 'S').toBe(model.settle(picked.id, 'nothing', clock.nowMs))
        }
      }
      checkNeverOver(model)
    }),
    RUNS,
  )
})

/** Adds up the costs of the starts, without any algorithm of the program (invariant 1). */
function checkNeverOver(model: Model): void {
  for (const [key, events] of model.events) {
    const { limit } = model.meters.get(key) ?? expect.fail(`no meter ${key}`)
    for (const [last, event] of events.entries()) {
      // A call that costs nothing in a unit passes its limits, whatever their debt.
      if (event.kind !== 'start' || event.amount === 0 || limit.unit === 'concurrency') continue
      let sum = 0
      for (let first = last; first >= 0; first--) {
        const from = events[first] as (typeof events)[number]
        if (limit.algorithm === 'fixed_window') {
          if (Math.floor(from.atMs / limit.windowMs) !== Math.floor(event.atMs / limit.windowMs)) break
          sum += from.amount
          expect(sum, `${key}: started in one window`).toBeLessThanOrEqual(limit.capacity + SLACK)
        } else {
          sum += from.amount
          expect(sum, `${key}: started since ${from.atMs}`).toBeLessThanOrEqual(limit.capacity + limit.rate * (event.atMs - from.atMs) + SLACK)
        }
      }
    }
  }
}

test('a reservation that is given back in full leaves every meter as if it had never been (invariant 3)', async () => {
  const reserving = newNamespace()
  const plain = newNamespace()
  const moves = fc.array(
    fc.record({
      ms: fc.integer({ min: 0, max: 3000 }),
      tokens: fc.integer({ min: 0, max: 400 }),
      phantom: fc.boolean(),
      held: fc.integer({ min: 0, max: 2000 }),
    }),
    {
      minLength: 2,
      maxLength: 25,
    },
  )
  await fc.assert(
    fc.asyncProperty(moves, async (steps) => {
      await Promise.all([forget(reserving), forget(plain)])
      // Buckets only: a charge counts in its own window, and a refund after the end of that window changes no later one.
      const rules: RuleSpec[] = [
        { name: 'r', scope: 'org', limits: [{ requests: 100, per: 'second', burst: 50 }, { tokens: 9000, per: '10s', burst: 8000 }, { concurrency: 100 }] },
      ]
      const one = givenScriptClient(reserving, rules)
      const other = givenScriptClient(plain, rules)
      const call: Call = { agent: 'llm', org: 'a' }
      for (const [index, { ms, tokens, phantom, held }] of steps.entries()) {
        for (const { clock } of [one, other]) clock.advance(ms)
        const real = { ...call, cost: { tokens } }
        await one.scriptClient.check([requestOf(one.scriptClient, `r${index}`, real)])
        await other.scriptClient.check([requestOf(other.scriptClient, `r${index}`, real)])
        if (!phantom) continue
        const ghost = requestOf(one.scriptClient, `g${index}`, { ...call, cost: { tokens: 100 } })
        const [decision] = await one.scriptClient.check([ghost])
        for (const { clock } of [one, other]) clock.advance(held)
        if (decision?.outcome === 'run') expect(await one.scriptClient.release(ghost)).toBe('S')
        expect(await one.scriptClient.release(ghost), 'a second time').toBe('-')
      }
      const peeked = requestOf(one.scriptClient, 'peek', { ...call, cost: { tokens: 0 } })
      const [a] = await one.scriptClient.peek([peeked])
      const [b] = await other.scriptClient.peek([peeked])
      for (const [place, usage] of (a?.usage ?? []).entries()) expect(usage.used).toBeCloseTo(b?.usage[place]?.used ?? Number.NaN, 6)
    }),
    { numRuns: runs(25) },
  )
})

test('settling any number of times equals settling once, in one batch or in several (invariant 3)', async () => {
  const namespace = newNamespace()
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 0, max: 500 }),
      fc.integer({ min: 0, max: 3000 }),
      fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 }),
      async (estimate, actual, batches) => {
        await forget(namespace)
        const { scriptClient, clock } = givenScriptClient(namespace, [{ name: 'r', scope: 'org', limits: [{ tokens: 1000, per: 'minute', burst: 1000 }] }])
        const request = requestOf(scriptClient, 'c', { agent: 'llm', org: 'a', cost: { tokens: estimate } })
        await scriptClient.check([request])
        const settled: unknown[] = []
        for (const size of batches)
          settled.push(...(await scriptClient.settle(Array.from({ length: size }, () => ({ request, actual: { ...AS_ESTIMATED, tokens: actual } })))))
        expect(settled.filter(Boolean)).toHaveLength(1)
        const [peeked] = await scriptClient.peek([requestOf(scriptClient, 'peek', { agent: 'llm', org: 'a', cost: { tokens: 0 } })])
        expect(peeked?.usage[0]?.used).toBeCloseTo(actual, 6)
        // The next call starts when the debt is paid back, to the millisecond.
        const debtMs = Math.max(0, (actual + 1 - 1000) / (1000 / 60_000))
        clock.advance(Math.floor(debtMs) - 1)
        if (debtMs > 1)
          expect((await scriptClient.check([requestOf(scriptClient, 'early', { agent: 'llm', org: 'a', cost: { tokens: 1 } })]))[0]?.outcome).toBe('reject')
        clock.advance(3)
        expect((await scriptClient.check([requestOf(scriptClient, 'late', { agent: 'llm', org: 'a', cost: { tokens: 1 } })]))[0]?.outcome).toBe('run')
      },
    ),
    { numRuns: runs(30) },
  )
})

test('a start whose reply was lost is answered again and charged once', async () => {
  const namespace = newNamespace()
  const { scriptClient } = givenScriptClient(namespace, [{ name: 'r', scope: 'org', limits: [{ requests: 10, per: 'hour' }, { concurrency: 2 }] }])
  const request = requestOf(scriptClient, 'c', { agent: 'llm', org: 'a' }, 'first')
  for (let i = 0; i < 3; i++) expect((await decideBy(scriptClient, 'start', [request]))[0]?.outcome).toBe('run')
  const again = requestOf(scriptClient, 'c', { agent: 'llm', org: 'a' }, 'second')
  const [decision] = await decideBy(scriptClient, 'start', [again])
  // A new attempt after the worker died has a slot of its own and is charged again, because the agent may have seen both.
  expect(decision?.outcome).toBe('run')
  expect(decision?.usage.map(({ used }) => used)).toEqual([2, 2])
})

test('a crashed call keeps its charge, and its slot comes back when the lease ends', async () => {
  const namespace = newNamespace()
  const { scriptClient, clock } = givenScriptClient(namespace, [
    { name: 'r', scope: 'org', limits: [{ requests: 10, per: 'hour', algorithm: 'fixed_window' }, { concurrency: 1 }] },
  ])
  const call: Call = { agent: 'llm', org: 'a' }
  await scriptClient.check([requestOf(scriptClient, 'dead', call)])
  clock.advance(29_999)
  expect((await scriptClient.check([requestOf(scriptClient, 'b', call)]))[0]).toMatchObject({ outcome: 'reject', binding: { limit: 'concurrency' } })
  clock.advance(2)
  const [decision] = await scriptClient.check([requestOf(scriptClient, 'c', call)])
  expect(decision?.outcome).toBe('run')
  expect(decision?.usage.map(({ used }) => used)).toEqual([2, 1])
})

test('a cost above the capacity of a meter is refused at once and changes nothing (invariant 11)', async () => {
  const namespace = newNamespace()
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 1000 }),
      fc.double({ min: 0.001, max: 1e9, noNaN: true }),
      fc.constantFrom('check' as const, 'enqueue' as const, 'start' as const),
      async (limit, above, script) => {
        await forget(namespace)
        const { scriptClient } = givenScriptClient(namespace, [
          { name: 'roomy', scope: 'global', limits: [{ requests: 1000, per: 'second' }] },
          { name: 'tight', scope: 'org', limits: [{ tokens: limit, per: 'minute' }] },
        ])
        const [decision] = await decideBy(scriptClient, script, [requestOf(scriptClient, 'c', { agent: 'llm', org: 'a', cost: { tokens: limit + above } })])
        expect(decision).toMatchObject({ outcome: 'reject', reason: 'too_big', retryAfterMs: null, binding: { rule: 'tight' } })
        expect(await namespace.allKeys()).toEqual([])
      },
    ),
    { numRuns: runs(30) },
  )
})

test('every key has an end, and that of a meter is no later than its state is empty (invariant 9)', async () => {
  const namespace = newNamespace()
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 30 }), async (steps) => {
      await forget(namespace)
      const scriptClient = realScriptClient(namespace, RULES)
      for (const [index, one] of steps.entries()) {
        if (one.do === 'admit') {
          const call: Call = { agent: 'llm', org: one.org, user: one.user, cost: { tokens: one.tokens } }
          const [decision] = await decideBy(scriptClient, index % 2 === 0 ? 'check' : 'start', [requestOf(scriptClient, `c${index}`, call)])
          const resets = new Map<string, number>()
          for (const { rule, scopeValue, resetMs, unit } of decision?.usage ?? []) {
            if (unit !== 'concurrency')
              resets.set(namespace.keys.meter(rule, scopeValue), Math.max(resetMs, resets.get(namespace.keys.meter(rule, scopeValue)) ?? 0))
          }
          if (decision?.outcome === 'run')
            for (const [key, resetMs] of resets) expect(await namespace.redis.pttl(key), key).toBeLessThanOrEqual(Math.ceil(resetMs) + 1)
        }
      }
      for (const key of await namespace.allKeys()) {
        // Lines and passes are deleted with their last entry instead.
        const ends = (await namespace.redis.pttl(key)) !== -1
        const emptiesItself = key === namespace.keys.lines || key === namespace.keys.passes || key.startsWith(`${namespace.keys.prefix}/l/`)
        expect(ends || emptiesItself, key).toBe(true)
      }
      await forget(namespace)
    }),
    { numRuns: runs(20) },
  )
})

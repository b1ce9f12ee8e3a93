import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Call, LimitSpec, RuleSpec } from '../../src/index.js'
import { GivenClock } from '../../src/model/time.js'
import { compilePolicy } from '../../src/policy/compile.js'
import type { Allowance, Override } from '../../src/policy/override.js'
import { EMPTY_POLICY, type Policy } from '../../src/policy/policy.js'
import { ScriptClient } from '../../src/store/redis/script-client.js'
import { forget } from '../support/keys.js'
import { newNamespace } from '../support/namespace.js'
import { runs } from '../support/runs.js'
import { resolverOf, T0 } from '../support/script-client.js'
import { SimulatedQueue } from '../support/simulated-queue.js'

const AGENTS = ['a', 'b'] as const
const ORGS = ['x', 'y'] as const

/** A change, and the time that passes after it. */
const step = fc.record({
  what: fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('enqueue' as const), count: fc.integer({ min: 1, max: 8 }) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('cancel' as const), which: fc.nat() }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('capacity' as const), perSecond: fc.constantFrom(0.5, 2, 10, 40), slots: fc.constantFrom(1, 3) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('rule' as const), on: fc.boolean() }) },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant('override' as const),
        org: fc.constantFrom(...ORGS),
        allow: fc.constantFrom<Allowance>('unlimited', { times: 3 }, { times: 0.5 }, { limits: [{ requests: 2, per: 'second' }] }),
        forMs: fc.constantFrom(0, 200, 3000),
      }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('pause' as const), org: fc.constantFrom(...ORGS, null) }) },
  ),
  passMs: fc.constantFrom(0, 20, 100, 400, 1500),
})

const call = fc.record(
  {
    agent: fc.constantFrom(...AGENTS),
    org: fc.constantFrom(...ORGS),
    priority: fc.integer({ min: -2, max: 2 }),
    cost: fc.record({ tokens: fc.integer({ min: 0, max: 30 }) }),
    maxWaitMs: fc.constantFrom(50, 300, 2000),
    strategy: fc.constantFrom('throttle' as const, 'retry_after' as const, 'hard' as const),
  },
  { requiredKeys: ['agent', 'org', 'cost'] },
)

function rulesWith(perSecond: number, slots: number, org: boolean): RuleSpec[] {
  const account: LimitSpec[] = [{ requests: perSecond, per: 'second', burst: 3 }, { tokens: 200, per: 'second' }, { concurrency: slots }]
  return [
    { name: 'account', scope: 'agent', limits: account },
    ...(org ? [{ name: 'org', scope: 'org', limits: [{ requests: 5, per: 'second', algorithm: 'sliding_window' as const }] }] : []),
  ]
}

interface Settings {
  readonly perSecond: number
  readonly slots: number
  readonly org: boolean
  readonly overrides: readonly Override[]
  /** The org whose calls are paused. */
  readonly paused: string | null
}

function policyOf({ perSecond, slots, org, overrides, paused }: Settings): Policy {
  const pauses = paused === null ? [] : [{ for: { org: paused }, by: 'test', since: new Date(T0).toISOString() }]
  return { ...EMPTY_POLICY, declared: rulesWith(perSecond, slots, org), overrides, pauses }
}

test('however calls are enqueued, cancelled and expire, and rules change: each accepted call ends once, none too late, and nothing is left of it (invariants 4, 9)', async () => {
  const namespace = newNamespace()
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 25 }), fc.infiniteStream(call), async (steps, calls) => {
      await forget(namespace)
      const clock = new GivenClock(T0)
      const resolver = resolverOf(namespace, rulesWith(10, 3, true))
      const scriptClient = new ScriptClient(namespace.redis, resolver, clock)
      const queue = new SimulatedQueue({ namespace, scriptClient, clock, runMs: 30 })
      const accepted = new Map<string, { untilMs: number; call: Call }>()
      const cancelled = new Set<string>()
      let settings: Settings = { perSecond: 10, slots: 3, org: true, overrides: [], paused: null }
      let count = 0
      let overrides = 0
      const change = (to: Partial<Settings>) => {
        settings = { ...settings, ...to }
        resolver.rules = compilePolicy(policyOf(settings), clock.nowMs)
        queue.rulesChanged()
      }
      for (const { what, passMs } of steps) {
        if (what.kind === 'enqueue') {
          const some = Array.from({ length: what.count }, () => ({ id: `c${count++}`, call: calls.next().value as Call }))
          const outcomes = await queue.enqueue(some)
          for (const [index, outcome] of outcomes.entries()) {
            const one = some[index] as (typeof some)[number]
            if (outcome !== 'reject')
              accepted.set(`calls/${one.id}`, { untilMs: clock.nowMs + (one.call.maxWaitMs ?? Number.POSITIVE_INFINITY), call: one.call })
          }
        } else if (what.kind === 'cancel') {
          const id = [...accepted.keys()][what.which % Math.max(1, accepted.size)]
          if (id !== undefined && (await queue.cancel(id))) cancelled.add(id)
        } else if (what.kind === 'capacity') change({ perSecond: what.perSecond, slots: what.slots })
        else if (what.kind === 'rule') change({ org: what.on })
        else if (what.kind === 'pause') change({ paused: what.org })
        else {
          const at = (ms: number) => new Date(ms).toISOString()
          const override: Override = {
            id: `o${overrides++}`,
            for: { org: what.org },
            allow: what.allow,
            reason: 'testing',
            by: 'test',
            grantedAt: at(clock.nowMs),
            until: at(clock.nowMs + what.forMs),
          }
          change({ overrides: [...settings.overrides, override] })
        }
        await queue.runFor(passMs, 10)
        // Compiles the policy at the new time: overrides may have ended.
        change({})
      }
      change({ perSecond: 40, slots: 3, org: false, overrides: [], paused: null })
      await queue.runFor(8000, 10)

      const started = queue.starts.map(({ id }) => id)
      const ends = [...started, ...cancelled, ...queue.notStarted.map(({ id }) => id)]
      expect([...ends].sort()).toEqual([...accepted.keys()].sort())
      for (const { id, atMs } of queue.starts) expect(atMs, id).toBeLessThan((accepted.get(id) as { untilMs: number }).untilMs)
      for (const { id, atMs, outcome } of queue.notStarted) {
        const { untilMs, call } = accepted.get(id) as { untilMs: number; call: Call }
        if (outcome === 'expired') expect(atMs, id).toBeGreaterThanOrEqual(untilMs)
        // An accepted call is refused only where the rules have changed since, and its strategy refuses.
        else expect(['hard', 'retry_after'], id).toContain(call.strategy)
      }
      await queue.runFor(1000, 100)
      const left = (await namespace.allKeys()).filter((key) => !/\/(m|sequence|figures)(\/|$)/.test(key))
      expect(left).toEqual([])
    }),
    { numRuns: runs(40) },
  )
})

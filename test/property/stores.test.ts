import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { AdmissionRequest } from '../../src/admission/request.js'
import type { Resolver } from '../../src/admission/resolver.js'
import type { Call, GivenClock, RuleSpec, Store } from '../../src/index.js'
import { type ActualCosts, AS_ESTIMATED, COST_UNITS, type Costs, type CostUnit, NOTHING } from '../../src/model/cost.js'
import type { UpstreamReport, UpstreamStatus } from '../../src/model/upstream.js'
import type { MemoryStore } from '../../src/store/memory/memory-store.js'
import { forget } from '../support/keys.js'
import { type Namespace, newNamespace } from '../support/namespace.js'
import { runs } from '../support/runs.js'
import { resolverOf } from '../support/script-client.js'
import { bothStores, expectSame } from '../support/stores.js'

/** All algorithms, several units, several limits of a rule, several rules. */
const FIRST: RuleSpec[] = [
  {
    name: 'account',
    scope: 'agent',
    limits: [
      { requests: 20, per: '10s', burst: 6 },
      { tokens: 3000, per: '10s', burst: 900 },
      { usd: 0.3, per: 'minute', algorithm: 'sliding_window' },
    ],
  },
  {
    name: 'org',
    scope: 'org',
    limits: [
      { name: 'r', requests: 7, per: '5s', algorithm: 'fixed_window' },
      { name: 't', tokens: 1000, per: '20s', algorithm: 'fixed_window' },
      { concurrency: 3 },
      { name: 'p', points: 9, per: '3s', algorithm: 'sliding_log' },
    ],
  },
  {
    name: 'user',
    scope: ['org', 'user'],
    limits: [
      { name: 'l', points: 50, per: '10s', algorithm: 'leaky_bucket' },
      { name: 'w', tokens: 900, per: '15s', algorithm: 'sliding_window' },
      { name: 'd', tokens: 4000, per: 'day', algorithm: 'fixed_window', timezone: 'Europe/Berlin' },
    ],
  },
  { name: 'money', scope: 'org', limits: [{ name: 'm', usd: 0.25, per: '30s', algorithm: 'sliding_log' }] },
  { name: 'own', scope: 'user', limits: [{ name: 's', points: 30, per: '8s', algorithm: 'custom:session' }] },
]

/** The same rules changed: amounts, windows, order, limits removed and added, algorithms under the same name. */
const SECOND: RuleSpec[] = [
  {
    name: 'account',
    scope: 'agent',
    limits: [
      { requests: 10, per: '10s', burst: 3 },
      { usd: 0.1, per: 'minute', algorithm: 'sliding_window' },
    ],
  },
  {
    name: 'org',
    scope: 'org',
    limits: [
      { concurrency: 1 },
      { name: 'p', points: 4, per: '6s', algorithm: 'sliding_log' },
      { name: 'r', requests: 3, per: '5s', algorithm: 'fixed_window' },
      { name: 't', tokens: 1000, per: '20s' },
    ],
  },
  {
    name: 'user',
    scope: ['org', 'user'],
    limits: [
      { name: 'w', tokens: 500, per: '45s', algorithm: 'sliding_window' },
      { name: 'l', points: 20, per: '10s', algorithm: 'sliding_log' },
    ],
  },
  { name: 'money', scope: 'org', limits: [{ name: 'm', usd: 0.5, per: '30s', algorithm: 'sliding_window' }] },
  { name: 'own', scope: 'user', limits: [{ name: 's', points: 20, per: '3s', algorithm: 'custom:session' }] },
]

/** Fewer rules, and a limit of 0. */
const THIRD: RuleSpec[] = [
  { name: 'org', scope: 'org', limits: [{ name: 'r', requests: 30, per: '5s', algorithm: 'fixed_window' }, { concurrency: 5 }] },
  {
    name: 'user',
    scope: ['org', 'user'],
    limits: [
      { name: 'w', tokens: 2000, per: '15s', algorithm: 'sliding_window' },
      { name: 'o', outputTokens: 0, per: 'second' },
    ],
  },
]

const RULES = [FIRST, SECOND, THIRD]

const costs = fc.record({
  requests: fc.constantFrom(1, 1, 1, 2, 0),
  tokens: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 1100 }), fc.double({ min: 0.001, max: 300, noNaN: true })),
  inputTokens: fc.constant(0),
  outputTokens: fc.constantFrom(0, 0, 0, 0, 0, 0, 0, 5),
  usd: fc.constantFrom(0, 0.01, 0.03, 0.1, 1 / 3e3),
  points: fc.constantFrom(0, 1, 1, 2.5, 0.1),
  uncachedInputTokens: fc.constant(0),
})

const share = fc.constantFrom(0, 0.3, 0.5, 1, 1.5, 2.5, 12)

const identity = { org: fc.constantFrom('a', 'b'), user: fc.constantFrom('x', 'y') }

type Step =
  | { do: 'pass'; ms: number }
  | { do: 'decide'; how: 'admit' | 'peek' | 'record'; org: string; user: string; costs: Costs; forGood: boolean }
  | { do: 'close'; how: 'end' | 'part' | 'release'; which: number; share: number; estimated: CostUnit | null }
  | { do: 'report'; kind: UpstreamReport['kind']; ms: number; which: number | null; limit: number }
  | { do: 'reset'; org: string; user: string }
  | { do: 'rules'; which: number }

function one<Kind extends Step['do']>(kind: Kind): fc.Arbitrary<Kind> {
  return fc.constant(kind)
}

const forwards = fc.oneof(fc.integer({ min: 0, max: 400 }), fc.double({ min: 0, max: 3000, noNaN: true }), fc.integer({ min: 0, max: 80_000 }))
const backwards = fc.oneof(fc.double({ min: -59_000, max: -0.001, noNaN: true }), fc.integer({ min: -400_000, max: -60_001 }), fc.constant(-3_600_000))
const how = fc.constantFrom('admit' as const, 'admit' as const, 'admit' as const, 'peek' as const, 'record' as const)
// Only the store in Redis learns a factor from refusals: both know that a block has an end.
const kind = fc.constantFrom('paused' as const, 'paused' as const, 'observed' as const)
const end = fc.constantFrom('end' as const, 'part' as const, 'release' as const)

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: one('pass'), ms: forwards }) },
  { weight: 1, arbitrary: fc.record({ do: one('pass'), ms: backwards }) },
  { weight: 8, arbitrary: fc.record({ do: one('decide'), how, ...identity, costs, forGood: fc.constantFrom(false, false, true) }) },
  { weight: 3, arbitrary: fc.record({ do: one('close'), how: end, which: fc.nat(), share, estimated: fc.constantFrom(...COST_UNITS, null) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: one('report'),
      kind,
      ms: fc.integer({ min: 1, max: 60_000 }),
      which: fc.option(fc.nat()),
      limit: fc.integer({ min: 1, max: 200 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: one('reset'), ...identity }) },
  { weight: 1, arbitrary: fc.record({ do: one('rules'), which: fc.constantFrom(0, 1, 2) }) },
)

function actualOf({ costs }: AdmissionRequest, times: number, estimated: CostUnit | null): ActualCosts {
  const actual = Object.fromEntries(COST_UNITS.map((unit) => [unit, unit === estimated ? undefined : costs[unit] * times]))
  return { ...AS_ESTIMATED, ...actual }
}

function expectSameStatus(one: UpstreamStatus, other: UpstreamStatus): void {
  expect(other.canary).toBe(one.canary)
  for (const field of ['atMs', 'blockedUntilMs', 'factor', 'sinceMs', 'cutAtMs', 'overMs'] as const) expect(other[field], field).toBeCloseTo(one[field], 3)
}

/** Both stores: every step is done on each, and both must answer alike. */
class Pair {
  private readonly clock: GivenClock
  private readonly memory: MemoryStore
  private readonly redis: Store
  private readonly versions: readonly Resolver[]
  private resolver: Resolver
  private readonly admitted: { call: Call; memory: AdmissionRequest; redis: AdmissionRequest }[] = []
  private count = 0

  constructor(namespace: Namespace) {
    const { clock, memory, redis } = bothStores(namespace)
    this.clock = clock
    this.memory = memory
    this.redis = redis
    this.versions = RULES.map((rules) => resolverOf(namespace, rules))
    this.resolver = this.versions[0] as Resolver
  }

  async do(step: Step): Promise<void> {
    if (step.do === 'pass') this.clock.advance(step.ms)
    else if (step.do === 'rules') this.resolver = this.versions[step.which] as Resolver
    else if (step.do === 'reset') {
      const request = this.named('~/reset', { agent: 'llm', org: step.org, user: step.user }, NOTHING)
      this.memory.reset(request)
      await this.redis.reset(request)
    } else if (step.do === 'report') await this.report(step)
    else if (step.do === 'decide') await this.decide(step)
    else await this.close(step)
  }

  /** Peeks at every meter. */
  async peekAll(): Promise<void> {
    for (const org of ['a', 'b']) {
      for (const user of ['x', 'y']) {
        const request = this.named('~/peek', { agent: 'llm', org, user }, { ...NOTHING, requests: 1, tokens: 1, usd: 0.01, points: 1 })
        expectSame(this.memory.peek(request), await this.redis.peek(request))
      }
    }
  }

  /** The state of the agent's block. */
  async upstreamStatus(): Promise<void> {
    const requests = [this.resolver.blockOf({ agent: 'llm' })]
    const [memory] = this.memory.upstreamStatus(requests)
    const [redis] = await this.redis.upstreamStatus(requests)
    expectSameStatus(memory as UpstreamStatus, redis as UpstreamStatus)
  }

  async figures(): Promise<void> {
    const { open, settled, released, overEstimatedPercent } = this.memory.figures()
    const other = await this.redis.figures()
    expect(other).toMatchObject({ open, settled, released })
    expect(other.overEstimatedPercent ?? 0).toBeCloseTo(overEstimatedPercent ?? 0, 6)
  }

  private named(id: string, call: Call, costs: Costs, forGood = false): AdmissionRequest {
    return { id, token: '', call: call.id === undefined ? {} : { id: call.id }, ...this.resolver.resolve(call, costs), forGood }
  }

  private async decide({ how, org, user, costs, forGood }: Step & { do: 'decide' }): Promise<void> {
    const number = this.count++
    const call: Call = { agent: 'llm', org, user, ...(number % 3 === 0 ? { id: `c${number % 5}` } : {}) }
    const request = this.named(call.id === undefined ? (forGood ? `~/n${number}` : '') : `~/${call.id}`, call, costs, forGood)
    if (how === 'peek') return expectSame(this.memory.peek(request), await this.redis.peek(request))
    const memory = this.memory[how](request)
    const redis = await this.redis[how](request)
    expectSame(memory.decision, redis.decision)
    if (memory.decision.outcome === 'run' && !forGood) this.admitted.push({ call, memory: memory.request, redis: redis.request })
  }

  /** A report by name, or one of an admitted call, which is released by it. */
  private async report({ kind, ms, which, limit }: Step & { do: 'report' }): Promise<void> {
    const observed = { requests: { limit, remaining: null, resetMs: null, windowMs: 60_000 } }
    const report: UpstreamReport = { kind, retryAfterMs: kind === 'observed' ? 0 : ms, reduceFactor: 0.5, name: { agent: 'llm' }, observed }
    const picked = which === null ? undefined : this.admitted[which % Math.max(1, this.admitted.length)]
    const request = this.resolver.blockOf({ agent: 'llm' })
    const { meters, costs, counted } = picked === undefined ? request : this.resolver.resolve(picked.call, picked.memory.costs)
    const memory = this.memory.reportUpstream({ ...(picked?.memory ?? request), meters, costs, counted }, report)
    const redis = await this.redis.reportUpstream({ ...(picked?.redis ?? request), meters, costs, counted }, report)
    expect(redis.cut).toBe(memory.cut)
    expectSameStatus(memory, redis)
  }

  /** Ends a call, at the meters that it has under the rules in force now. */
  private async close({ how, which, share, estimated }: Step & { do: 'close' }): Promise<void> {
    const picked = this.admitted[which % Math.max(1, this.admitted.length)]
    if (picked === undefined) return
    const { meters, costs, counted } = this.resolver.resolve(picked.call, picked.memory.costs)
    const [memory, redis] = [
      { ...picked.memory, meters, costs, counted },
      { ...picked.redis, meters, costs, counted },
    ]
    const actual = actualOf(memory, share, estimated)
    if (how === 'release') expect(this.memory.release(memory)).toBe(await this.redis.release(redis))
    else expect(this.memory.settle(memory, actual, how)).toBe(await this.redis.settle(redis, actual, how))
  }
}

test('the store in memory and the one in Redis decide alike, to the last figure, in any sequence of steps', async () => {
  const namespace = newNamespace()
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async (steps) => {
      await forget(namespace)
      const pair = new Pair(namespace)
      for (const one of steps) {
        await pair.do(one)
        await pair.peekAll()
        await pair.upstreamStatus()
      }
      await pair.figures()
    }),
    { numRuns: runs(120) },
  )
})

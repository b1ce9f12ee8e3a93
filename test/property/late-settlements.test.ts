import fc from 'fast-check'
import { test } from 'vitest'
import type { AdmissionRequest, CallRequest } from '../../src/admission/request.js'
import type { LimitSpec, RuleSpec } from '../../src/index.js'
import { NAMED_ALGORITHMS } from '../../src/limits/algorithms.js'
import { periodMs } from '../../src/limits/limit.js'
import { type ActualCosts, AS_ESTIMATED, type CostUnit, NOTHING } from '../../src/model/cost.js'
import { GivenClock } from '../../src/model/time.js'
import { LocalAdmission } from '../../src/outage/local-admission.js'
import { callRequest } from '../../src/queue/stored-call.js'
import { LedgerNames } from '../../src/store/ledger-names.js'
import { MemoryStore } from '../../src/store/memory/memory-store.js'
import { requestFor } from '../../testing/request.js'
import { forget } from '../support/keys.js'
import { newNamespace } from '../support/namespace.js'
import { runs } from '../support/runs.js'
import { givenScriptClient, T0 } from '../support/script-client.js'
import { redisStore } from '../support/stores.js'
import { expectNeverOver, type Start } from '../support/sums.js'

/** How a call that started ends: settled at its actual cost, settled in parts before, given back, or never. */
type End = 'settled' | 'in parts' | 'released' | 'never'

/** One way by which calls start and end, on a clock that stands still until it is moved. */
interface Front {
  readonly clock: GivenClock
  /** @returns what ends the call, or how long it has to wait */
  start(cost: number): Promise<{ end(actual: number, how: 'end' | 'part' | 'release'): Promise<unknown> } | { waitMs: number }>
}

const AGENT = { agent: 'a' }

function ruleOf(limit: LimitSpec): RuleSpec[] {
  return [{ name: 'r', scope: 'agent', limits: [limit] }]
}

function actualIn(unit: CostUnit, amount: number): ActualCosts {
  return { ...AS_ESTIMATED, [unit]: amount }
}

/** The front of `gate.admit`, on a store. */
function gateFront(
  clock: GivenClock,
  store: Pick<MemoryStore, 'admit' | 'settle' | 'release'> | ReturnType<typeof redisStore>,
  request: AdmissionRequest,
  unit: CostUnit,
): Front {
  return {
    clock,
    async start(cost) {
      const { request: admitted, decision } = await store.admit({ ...request, costs: { ...NOTHING, [unit]: cost } })
      if (decision.outcome === 'reject') return { waitMs: decision.retryAfterMs ?? 0 }
      return {
        end: async (actual, how) => (how === 'release' ? store.release(admitted) : store.settle(admitted, actualIn(unit, actual), how)),
      }
    },
  }
}

/** The scripts as a worker runs them: ends travel with the next starts. */
function workerFront({ scriptClient, clock }: ReturnType<typeof givenScriptClient>, unit: CostUnit): Front {
  const names = new LedgerNames()
  const ended: { request: CallRequest; actual: ActualCosts }[] = []
  return {
    clock,
    async start(cost) {
      const call = { ...AGENT, strategy: 'retry_after' as const }
      const request = { ...callRequest(scriptClient, `calls/${names.next()}`, '0', call, { ...NOTHING, [unit]: cost }), ledger: names.next() }
      const [decision] = await scriptClient.start([request], ended.splice(0), true)
      if (decision?.outcome === 'reject') return { waitMs: decision.retryAfterMs ?? 0 }
      return {
        async end(actual, how) {
          if (how === 'end') ended.push({ request, actual: actualIn(unit, actual) })
          else if (how === 'part') await scriptClient.settle([{ request, actual: actualIn(unit, actual) }], 'part')
          else await scriptClient.release(request)
        },
      }
    },
  }
}

/** Makes a front that has not been used, any number of times. */
type FrontMaker = () => Promise<Front>

/** What makes each front, by its name, for a limit. */
const FRONTS: Record<string, (limit: LimitSpec, unit: CostUnit) => FrontMaker> = {
  'the gate on the store in memory': (limit, unit) => async () => {
    const clock = new GivenClock(T0)
    return gateFront(clock, new MemoryStore(() => clock.nowMs), requestFor(ruleOf(limit), AGENT, {}), unit)
  },
  'the gate on the store in Redis': (limit, unit) => {
    const namespace = newNamespace()
    return async () => {
      await forget(namespace)
      const clock = new GivenClock(T0)
      return gateFront(clock, redisStore(namespace, clock), requestFor(ruleOf(limit), AGENT, {}, { namespace: namespace.name }), unit)
    }
  },
  'the scripts of a worker': (limit, unit) => {
    const namespace = newNamespace()
    return async () => {
      await forget(namespace)
      return workerFront(givenScriptClient(namespace, ruleOf(limit)), unit)
    }
  },
  /** One process that has all of the limit, of which nine tenths were used before. */
  'a process without Redis': (limit, unit) => async () => {
    const clock = new GivenClock(T0)
    const local = new LocalAdmission('local', 0, new LedgerNames(), () => clock.nowMs)
    local.begin({ of: 1, rank: 0 })
    return gateFront(clock, local, requestFor(ruleOf(limit), AGENT, {}), unit)
  },
}

const shares = fc.oneof(fc.constantFrom(1, 1, 0.5, 0.1, 1 / 3), fc.double({ min: 0.01, max: 1, noNaN: true }))
/** Shares of the window; -1: the wait that the last refusal named. */
const waits = fc.oneof({ weight: 3, arbitrary: fc.constantFrom(0, 0, -1, -1, 0.5, 1) }, { weight: 1, arbitrary: fc.double({ min: 0, max: 0.3, noNaN: true }) })
const lasts = fc.oneof({ weight: 2, arbitrary: fc.constantFrom(0, 0.5, 1, 1.0001, 2) }, { weight: 1, arbitrary: fc.double({ min: 0, max: 3, noNaN: true }) })

const traffic = fc.array(
  fc.record({
    estimate: shares,
    /** Of the estimate. */
    actual: fc.constantFrom(0, 0, 0, 0.1, 0.5, 1),
    wait: waits,
    /** How long the call lasts, in windows. */
    lasts,
    end: fc.constantFrom<End>('settled', 'settled', 'settled', 'settled', 'in parts', 'released', 'never'),
    /** Whether others start when it has ended, as many as there is room for. */
    followed: fc.boolean(),
  }),
  { minLength: 10, maxLength: 40 },
)
type Calls = typeof traffic extends fc.Arbitrary<infer Some> ? Some : never

/** Lets calls start and end at one front, and notes what the agent sees. */
class Traffic {
  /** Each start with what it cost in truth; a call that was released was not made. */
  readonly seen: Start[] = []
  private readonly due: { atMs: number; end(): Promise<unknown> }[] = []

  /** @param most the most that a call can cost */
  constructor(
    private readonly front: Front,
    private readonly most: number,
    private readonly windowMs: number,
  ) {}

  async run(calls: Calls): Promise<void> {
    let waitMs = 0
    for (const call of calls) {
      await this.passUntil(this.front.clock.nowMs + (call.wait < 0 ? waitMs : call.wait * this.windowMs))
      waitMs = await this.start(call)
    }
    await this.passUntil(this.front.clock.nowMs + 4 * this.windowMs)
  }

  private async passUntil(untilMs: number): Promise<void> {
    const { clock } = this.front
    for (;;) {
      this.due.sort((one, other) => one.atMs - other.atMs)
      const next = this.due[0]
      if (next === undefined || next.atMs > untilMs) break
      this.due.shift()
      clock.nowMs = Math.max(clock.nowMs, next.atMs)
      await next.end()
    }
    clock.nowMs = untilMs
  }

  /** @returns how long the call would have to wait */
  private async start({ estimate, actual, lasts, end, followed }: Calls[number]): Promise<number> {
    const { clock } = this.front
    const cost = estimate * this.most
    const started = await this.front.start(cost)
    if ('waitMs' in started) return started.waitMs
    const startedMs = clock.nowMs
    const amount = end === 'never' ? cost : end === 'released' ? 0 : actual * cost
    this.seen.push({ atMs: startedMs, amount })
    if (end === 'never') return 0
    const endAt = (share: number, how: 'end' | 'part' | 'release') => {
      this.due.push({
        atMs: startedMs + share * lasts * this.windowMs,
        end: async () => {
          await started.end(amount, how)
          if (followed) await this.startAll()
        },
      })
    }
    if (end === 'in parts') endAt(0.5, 'part')
    endAt(1, end === 'released' ? 'release' : 'end')
    return 0
  }

  /** Calls that cost what was estimated start until there is no room, ever smaller ones. */
  private async startAll(): Promise<void> {
    for (let cost = this.most; cost >= this.most / 8; cost /= 2) {
      const started = await this.front.start(cost)
      if (!('waitMs' in started)) this.seen.push({ atMs: this.front.clock.nowMs, amount: cost })
    }
  }
}

const LIMITS: readonly LimitSpec[] = [
  ...NAMED_ALGORITHMS.map((algorithm) => ({ algorithm })),
  { algorithm: 'fixed_window', per: 'day', timezone: 'Europe/Berlin' },
  { algorithm: 'token_bucket', burst: 30 },
  { algorithm: 'token_bucket', burst: 300 },
]
const AMOUNT = 100
/** Tokens are known when a call has ended, points when it starts. */
const UNITS = ['tokens', 'points'] as const

/** Front, algorithm and what else its limit says, unit; and the limit. */
const CASES = Object.keys(FRONTS).flatMap((front) =>
  LIMITS.flatMap((limit) => UNITS.map((unit) => [front, `${limit.algorithm} ${limit.burst ?? limit.per ?? ''}`.trim(), unit, limit] as const)),
)

test.each(CASES)(
  '%s: what an agent sees never exceeds %s of %s, however late calls are settled for less (invariants 1 and 3)',
  async (front, _, unit, limit) => {
    const spec: LimitSpec = { [unit]: AMOUNT, per: '10s', ...limit }
    const windowMs = periodMs(spec.per as string) as number
    const make = (FRONTS[front] as (typeof FRONTS)[string])(spec, unit)
    await fc.assert(
      fc.asyncProperty(traffic, async (calls) => {
        const offered = new Traffic(await make(), Math.min(AMOUNT, spec.burst ?? AMOUNT), windowMs)
        await offered.run(calls)
        expectNeverOver(offered.seen, spec, AMOUNT, windowMs)
      }),
      { numRuns: runs(front.includes('in Redis') || front.includes('worker') ? 12 : 100) },
    )
  },
)

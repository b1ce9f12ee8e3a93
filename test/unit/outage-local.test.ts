import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { AdmissionRequest } from '../../src/admission/request.js'
import type { LimitSpec, RuleSpec } from '../../src/index.js'
import type { MeterState } from '../../src/limits/algorithm.js'
import { ALGORITHMS } from '../../src/limits/algorithms.js'
import { GivenClock, MINUTE } from '../../src/model/time.js'
import { LocalAdmission } from '../../src/outage/local-admission.js'
import { LedgerNames } from '../../src/store/ledger-names.js'
import { MemoryStore } from '../../src/store/memory/memory-store.js'
import { requestFor } from '../../testing/request.js'
import { T0 } from '../support/script-client.js'
import type { Start } from '../support/sums.js'

const LIMIT = 100
const WINDOW_MS = MINUTE
const STEP_MS = 500

/** Several processes and their Redis, as far as limits go, on one clock. */
class Fleet {
  readonly clock = new GivenClock(T0)
  readonly redis = new MemoryStore(() => this.clock.nowMs)
  readonly starts: Start[] = []
  private readonly processes: readonly LocalAdmission[]

  constructor(
    private readonly request: AdmissionRequest,
    of: number,
  ) {
    this.processes = Array.from({ length: of }, () => new LocalAdmission('local', 0, new LedgerNames(), () => this.clock.nowMs))
  }

  /** Calls come far too often for so long; Redis answers them. */
  connected(forMs: number): void {
    this.each(forMs, () => this.ask(() => this.redis.admit(this.request).decision.outcome))
  }

  /** The same, but each process answers them by itself. */
  away(forMs: number): void {
    for (const [rank, process] of this.processes.entries()) process.begin({ of: this.processes.length, rank })
    this.each(forMs, () => {
      for (const process of this.processes) this.ask(() => process.admit(this.request).decision.outcome)
    })
    for (const process of this.processes) this.merge(process)
  }

  /** Lets so many calls in at one process in an outage, and returns what that reports. */
  private merge(process: LocalAdmission): void {
    const nowMs = this.clock.nowMs
    for (const { part, amounts } of process.journal.report().meters) {
      const meter = this.redis.meter(part, nowMs)
      const states = meter.look(part.rule, nowMs)
      for (const [n, limit] of part.rule.limits.entries())
        ALGORITHMS[limit.algorithm].overrun(states[n] as MeterState, limit, amounts[2 * n] as number, nowMs, nowMs, '')
      meter.keep()
    }
  }

  private each(forMs: number, what: () => void): void {
    for (let ms = 0; ms < forMs; ms += STEP_MS) {
      what()
      this.clock.advance(STEP_MS)
    }
  }

  private ask(admit: () => string): void {
    while (admit() === 'run') this.starts.push({ atMs: this.clock.nowMs, amount: 1 })
  }
}

/** The most that was started in any time, against what the limit allows in it. */
function worst(starts: readonly Start[], { algorithm, burst = LIMIT }: LimitSpec): number {
  const bucket = algorithm === 'token_bucket'
  const windowOf = (atMs: number) => Math.floor(atMs / WINDOW_MS)
  let most = 0
  for (const [first, { atMs: fromMs }] of starts.entries()) {
    for (let last = first; last < starts.length; last++) {
      const { atMs } = starts[last] as Start
      if (algorithm === 'fixed_window' && windowOf(atMs) !== windowOf(fromMs)) break
      if (!bucket && atMs - fromMs >= WINDOW_MS) break
      const allowed = bucket ? burst + ((atMs - fromMs) * LIMIT) / WINDOW_MS : LIMIT
      most = Math.max(most, (last - first + 1) / allowed)
    }
  }
  return most
}

const LIMITS: readonly LimitSpec[] = [
  { requests: LIMIT, per: 'minute', algorithm: 'fixed_window' },
  { requests: LIMIT, per: 'minute', algorithm: 'sliding_window' },
  { requests: LIMIT, per: 'minute', algorithm: 'sliding_log' },
  { requests: LIMIT, per: 'minute', algorithm: 'token_bucket' },
  { requests: LIMIT, per: 'minute', algorithm: 'token_bucket', burst: 30 },
]

const ruleOf = (limit: LimitSpec): RuleSpec[] => [{ name: 'r', scope: 'agent', limits: [limit] }]
const requestOf = (limit: LimitSpec) => requestFor(ruleOf(limit), { agent: 'a' }, { requests: 1 }, { forGood: true })

test.each(LIMITS)('outages one after the other leave a fleet within 1.1 times $algorithm (burst $burst), in any window', (limit) => {
  const times = fc.array(fc.tuple(fc.integer({ min: 1, max: 80 }), fc.integer({ min: 1, max: 80 })), { minLength: 1, maxLength: 5 })
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 4 }), times, (of, phases) => {
      const fleet = new Fleet(requestOf(limit), of)
      for (const [connected, away] of phases) {
        fleet.connected(connected * 2 * STEP_MS)
        fleet.away(away * 2 * STEP_MS)
      }
      fleet.connected(2 * WINDOW_MS)
      expect(worst(fleet.starts, limit)).toBeLessThanOrEqual(1.1 + 1e-6)
    }),
    { numRuns: 40 },
  )
})

test.each(LIMITS)('an outage that begins again in the same window has no second tenth by $algorithm (burst $burst)', (limit) => {
  const fleet = new Fleet(requestOf(limit), 1)
  fleet.connected(STEP_MS)
  const used = fleet.starts.length
  for (let n = 0; n < 3; n++) fleet.away(STEP_MS)
  const back = limit.algorithm === 'token_bucket' ? (2 * STEP_MS * LIMIT) / WINDOW_MS : 0
  expect(fleet.starts.length - used).toBeLessThanOrEqual((limit.burst ?? LIMIT) / 10 + back)
  expect(fleet.starts.length - used).toBeGreaterThanOrEqual((limit.burst ?? LIMIT) / 10)
})

test.each(LIMITS)(
  'what is used in an outage longer than its window is its share again, and reported as far as it counts, by $algorithm (burst $burst)',
  (limit) => {
    const fleet = new Fleet(requestOf(limit), 4)
    fleet.away(4 * WINDOW_MS)
    const starts = fleet.starts.filter(({ atMs }) => atMs >= T0 + 2 * WINDOW_MS)
    // A sliding window leaves a thirty-third idle.
    expect(starts.length / (2 * LIMIT)).toBeGreaterThan(0.9)
    const [usage] = fleet.redis.peek(requestOf(limit)).usage
    const since = (ms: number) => fleet.starts.filter(({ atMs }) => atMs > fleet.clock.nowMs - ms).length
    if (limit.algorithm === 'fixed_window') expect(usage?.used).toBe(0)
    else if (limit.algorithm !== 'token_bucket') expect(usage?.used).toBeGreaterThanOrEqual(since(WINDOW_MS))
    else expect(usage?.used).toBeGreaterThan((limit.burst ?? LIMIT) * 0.8)
  },
)

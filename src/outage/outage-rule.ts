import { emptyState, type MeterNumbers } from '../limits/algorithm.js'
import { ALGORITHMS, type AlgorithmName } from '../limits/algorithms.js'
import type { CompiledLimit } from '../limits/compiled-limit.js'
import { DEFAULTS } from '../model/defaults.js'
import type { CompiledRule } from '../policy/compiled-rule.js'
import type { OnStoreError } from '../policy/rule.js'

/** One process's part of what a fleet may do. */
export interface Share {
  /** How many processes there are. */
  readonly of: number
  /** Which of them this is, from 0. */
  readonly rank: number
}

/** How usage from before an outage, which this process does not know, is made up for: see `OutageJournal`. */
export type Start = 'tenth' | 'filled' | 'leased'

export function startOf(algorithm: AlgorithmName): Start {
  switch (algorithm) {
    case 'fixed_window':
    case 'sliding_window':
    case 'sliding_log':
    case 'custom':
      return 'tenth'
    case 'token_bucket':
    case 'leaky_bucket':
      return 'filled'
    case 'concurrency':
      return 'leased'
    default:
      return algorithm satisfies never
  }
}

/** Whether calls cost whole units of it, nearly always: a part of a unit lets no call in. */
function countsWhole({ unit }: CompiledLimit): boolean {
  return unit === 'requests' || unit === 'points' || unit === 'concurrency'
}

function withNumbers(limit: CompiledLimit, numbers: MeterNumbers): CompiledLimit {
  return { ...limit, ...numbers, slack: ALGORITHMS[limit.algorithm].slack(numbers) }
}

/** A limit's numbers as one process of several applies them; together they come to the numbers of the limit. */
export function shareOfLimit(limit: CompiledLimit, { of, rank }: Share): CompiledLimit {
  const { capacity, rate, algorithm } = limit
  let numbers: MeterNumbers = { ...limit, capacity: capacity / of, rate: rate / of }
  if (countsWhole(limit) && capacity >= 1) {
    const whole = Math.floor(capacity)
    // The remainder of the division goes to the processes of the lowest ranks.
    if (startOf(algorithm) !== 'filled') numbers = { ...numbers, capacity: Math.floor(whole / of) + (rank < whole % of ? 1 : 0) }
    // A bucket of less than one call never lets a call in: fewer processes have larger buckets.
    else if (whole < of) numbers = rank < whole ? { ...numbers, capacity: capacity / whole, rate: rate / whole } : { ...numbers, capacity: 0 }
  }
  return withNumbers(limit, numbers)
}

/** When the last thing that was charged in a window up to a time does not count any more. */
function endOfWindow(limit: CompiledLimit, atMs: number): number {
  const state = emptyState()
  ALGORITHMS[limit.algorithm].charge(state, limit, 1, atMs, '')
  return atMs + ALGORITHMS[limit.algorithm].resetMs(state, limit, atMs)
}

function withoutSlots(rule: CompiledRule): CompiledRule {
  const holdsNone = ({ unit }: CompiledLimit) => unit !== 'concurrency'
  const { limits, active } = rule
  return limits.every(holdsNone) ? rule : { ...rule, limits: limits.filter(holdsNone), active: limits.slice(0, active).filter(holdsNone).length }
}

/** A rule as one process of several applies it in an outage. */
export class OutageRule {
  /** The rule with this process's share of each limit: what calls cost above it is debt. */
  readonly share: CompiledRule
  /** Until when each limit that counts in windows allows a tenth; 0 for the others. */
  private readonly tenthUntilMs: readonly number[]
  private asked: CompiledRule
  private nextMs = Number.NEGATIVE_INFINITY
  private slotless: CompiledRule | undefined

  constructor(
    readonly mode: OnStoreError,
    rule: CompiledRule,
    share: Share,
    beganMs: number,
  ) {
    this.share = share.of === 1 ? rule : { ...rule, limits: rule.limits.map((limit) => shareOfLimit(limit, share)) }
    this.asked = this.share
    this.tenthUntilMs = this.share.limits.map((limit) => (startOf(limit.algorithm) === 'tenth' ? endOfWindow(limit, beganMs) : 0))
  }

  /** By what calls are admitted: the share, but a tenth of each window that had begun before the outage. */
  at(nowMs: number): CompiledRule {
    if (nowMs >= this.nextMs) {
      const pending = this.tenthUntilMs.filter((untilMs) => untilMs > nowMs)
      this.nextMs = Math.min(...pending)
      this.asked = pending.length === 0 ? this.share : this.withTenths(nowMs)
    }
    return this.asked
  }

  /** The share without slots: by what is charged without being asked for. */
  get counted(): CompiledRule {
    this.slotless ??= withoutSlots(this.share)
    return this.slotless
  }

  /** For how long a limit allows a tenth; 0 = it allows all of the share. */
  tenthMs(limitName: string, nowMs: number): number {
    const place = this.share.limits.findIndex(({ name }) => name === limitName)
    return Math.max(0, (this.tenthUntilMs[place] ?? 0) - nowMs)
  }

  private withTenths(nowMs: number): CompiledRule {
    const limits = this.share.limits.map((limit, n) =>
      (this.tenthUntilMs[n] as number) > nowMs ? withNumbers(limit, { ...limit, capacity: limit.capacity * DEFAULTS.outageShare }) : limit,
    )
    return { ...this.share, limits }
  }
}

import type { MeterNumbers } from '../limits/algorithm.js'
import { ALGORITHMS } from '../limits/algorithms.js'
import type { CompiledLimit } from '../limits/compiled-limit.js'
import type { CompiledRule } from '../policy/compiled-rule.js'

/** One process's part of what a fleet may do. */
export interface Share {
  /** How many processes there are. */
  readonly of: number
  /** Which of them this is, from 0. */
  readonly rank: number
}

/** Calls cost whole ones of these, nearly always: a part of one lets nobody in. */
function countsWhole({ unit }: CompiledLimit): boolean {
  return unit === 'requests' || unit === 'points' || unit === 'concurrency'
}

/** A limit's numbers as one process of several applies them; together they come to those of the limit. */
export function shareOfLimit(limit: CompiledLimit, { of, rank }: Share): CompiledLimit {
  const { capacity, rate, algorithm } = limit
  const bucket = algorithm === 'token_bucket' || algorithm === 'leaky_bucket'
  let numbers: MeterNumbers = { ...limit, capacity: capacity / of, rate: rate / of }
  if (countsWhole(limit) && capacity >= 1) {
    const whole = Math.floor(capacity)
    // What does not go round goes to the first of them.
    if (!bucket) numbers = { ...numbers, capacity: Math.floor(whole / of) + (rank < whole % of ? 1 : 0) }
    // Buckets of less than one would never let anybody in: fewer processes have larger ones.
    else if (whole < of) numbers = rank < whole ? { ...numbers, capacity: capacity / whole, rate: rate / whole } : { ...numbers, capacity: 0 }
  }
  return { ...limit, ...numbers, slack: ALGORITHMS[algorithm].slack(numbers) }
}

/** A rule as one process of several applies it. */
export function shareOfRule(rule: CompiledRule, share: Share): CompiledRule {
  return share.of === 1 ? rule : { ...rule, limits: rule.limits.map((limit) => shareOfLimit(limit, share)) }
}

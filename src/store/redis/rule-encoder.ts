import type { CompiledLimit } from '../../limits/compiled-limit.js'
import { type CompiledRule, NO_OPTIONS, type RuleOptions } from '../../policy/compiled-rule.js'
import { ALGORITHM_CODES, encodedOptions, encodedRecovery, KIND_CODES, strictnessOf, UNIT_CODES } from './protocol.js'

/** The numbers of a limit that scripts read besides its capacity, by its algorithm. */
function numbersOf({ algorithm, rate, windowMs, offsetMs, leaseMs }: CompiledLimit): readonly number[] {
  switch (algorithm) {
    case 'token_bucket':
    case 'leaky_bucket':
      return [rate, 0]
    case 'fixed_window':
    case 'sliding_window':
    case 'sliding_log':
      return [windowMs, offsetMs]
    case 'concurrency':
      return [leaseMs, 0]
    case 'custom':
      return [windowMs, rate]
    default:
      return algorithm satisfies never
  }
}

function encodeLimit(limit: CompiledLimit, atMs: number): unknown[] {
  const { id, algorithm, unit, capacity, borders, own } = limit
  const last = own === undefined ? [borders?.(atMs)] : [own.lua, own.capacity]
  return [id, ALGORITHM_CODES[algorithm], UNIT_CODES[unit], capacity, ...numbersOf(limit), ...last.filter((one) => one !== undefined)]
}

/** The optional parts of a rule: which limits hold, its bounds, how its agent recovers. */
function detailsOf({ limits, active, options, degraded, recovery }: CompiledRule): unknown[] {
  const { maxWaitMs, maxWaiting, holdMs, maxDelayMs } = options
  const bounds = encodedOptions({ MAX_WAIT: maxWaitMs, MAX_WAITING: maxWaiting, HOLD: holdMs, MAX_DELAY: maxDelayMs, DEGRADES: degraded === null ? 0 : 1 })
  if (recovery !== undefined) {
    const { id, mirrored, probeLeaseMs, everyMs, stepFactor } = recovery
    return [mirrored.length, bounds, encodedRecovery({ ID: id, PROBE_LEASE: probeLeaseMs, EVERY: everyMs, GROWS: stepFactor })]
  }
  const plain = degraded === null && (Object.keys(NO_OPTIONS) as (keyof RuleOptions)[]).every((name) => options[name] === NO_OPTIONS[name])
  return active === limits.length && plain ? [] : [active, bounds]
}

function encodeRule(rule: CompiledRule, atMs: number): string {
  const { kind, priority, strategy, recovery } = rule
  const limits =
    recovery?.mirrored.map(({ id, unit, capacity, rate }) => [id, 0, UNIT_CODES[unit], capacity, rate]) ?? rule.limits.map((limit) => encodeLimit(limit, atMs))
  return JSON.stringify([KIND_CODES[kind], priority, strictnessOf(strategy), limits, ...detailsOf(rule)])
}

/** A rule as JSON, and as a string within JSON: the scripts recognise a rule as a whole, and parse it once. */
export interface EncodedRule {
  readonly json: string
  readonly quoted: string
}

const encodedRules = new WeakMap<CompiledRule, EncodedRule>()

/** A rule as the scripts read it (see `lua/lib/rule.lua`), at a time: encoded once, but for the borders of a calendar. */
export function encodedRule(rule: CompiledRule, atMs: number): EncodedRule {
  let encoded = encodedRules.get(rule)
  if (encoded === undefined) {
    const json = encodeRule(rule, atMs)
    encoded = { json, quoted: JSON.stringify(json) }
    if (rule.limits.every(({ borders }) => borders === undefined)) encodedRules.set(rule, encoded)
  }
  return encoded
}

/** Whether scripts read two rules alike, at a time. */
export function isSameRule(one: CompiledRule, other: CompiledRule, atMs: number): boolean {
  return one === other || encodedRule(one, atMs).json === encodedRule(other, atMs).json
}

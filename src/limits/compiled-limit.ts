import type { Strategy } from '../model/call.js'
import { COST_UNITS, type Unit } from '../model/cost.js'
import { DEFAULTS } from '../model/defaults.js'
import { DAY, WEEK } from '../model/time.js'
import type { MeterLimit, MeterNumbers } from './algorithm.js'
import { ALGORITHMS, type AlgorithmName } from './algorithms.js'
import { bordersAround, type CalendarPeriod } from './calendar.js'
import { calendarPeriod, type LimitSpec, limitName, periodMs, unitOf } from './limit.js'

/** One limit with its numbers worked out. */
export interface CompiledLimit extends MeterLimit {
  readonly name: string
  /** Under which its usage is kept. */
  readonly id: number
  readonly unit: Unit | 'none'
  readonly algorithm: AlgorithmName
  /** What it allows per window, as written; for a concurrency the slots. */
  readonly limit: number
  /** Null for a concurrency, a block and a pause. */
  readonly windowMs: number | null
}

/** How strict strategies are, as scripts compare them; those of own code share one number. */
const STRICTNESS: readonly string[] = ['', 'queue', 'throttle', 'graceful', 'custom', 'retry_after', 'hard']

/** By which scripts know a strategy. */
export function strictnessOf(strategy: Strategy): number {
  return STRICTNESS.indexOf(strategy.startsWith('custom:') ? 'custom' : strategy)
}

/** The strategy that a script told of; undefined where it told of none, or of own code. */
export function strategyOf(strictness: number): Strategy | undefined {
  const name = STRICTNESS[strictness]
  return name === '' || name === 'custom' ? undefined : (name as Strategy | undefined)
}

/** What a rule bounds besides its limits, as scripts read it: see `lua/lib/batch.lua`; 0 = without bound, but for the hold. */
export type RuleOptions = readonly [maxWaitMs: number, maxWaiting: number, holdMs: number, maxDelayMs: number, degrades: 0 | 1]

/** Those of a rule that says nothing, which are not sent along; as in `lua/lib/rule.lua`. */
export const NO_OPTIONS: RuleOptions = [0, 0, DEFAULTS.throttleHoldMs, 0, 0]
/** By which scripts know the units, see `lua/lib/units.lua`. */
export const UNIT_CODES: Readonly<Record<CompiledLimit['unit'], number>> = {
  requests: 1,
  tokens: 2,
  inputTokens: 3,
  outputTokens: 4,
  usd: 5,
  points: 6,
  concurrency: 7,
  none: 8,
}
/** Windows of weeks begin on Monday; the epoch was a Thursday. */
const MONDAY_OFFSET_MS = 4 * DAY

/** FNV-1a, 32 bit (Fowler, Noll, Vo). */
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0
  return hash
}

/**
 * The id of a limit in packed meters. Its usage is found by it, whatever its numbers become;
 * but no algorithm reads what another one remembered in a form of its own, nor a sliding
 * window the cells of another length. Buckets and fixed windows only count: they take over.
 */
export function limitId(name: string, algorithm: AlgorithmName, windowMs: number | null): number {
  if (algorithm === 'sliding_window') return hashOf(`${name}\n${algorithm} ${windowMs}`)
  return hashOf(algorithm === 'sliding_log' || algorithm === 'concurrency' ? `${name}\n${algorithm}` : name)
}

/** The borders of a calendar's windows around any time; worked out anew once a window. */
function bordersOf(period: CalendarPeriod, timezone: string): (atMs: number) => readonly number[] {
  let known: readonly number[] = []
  return (atMs) => {
    if (!(atMs >= (known[2] ?? Number.NaN) && atMs < (known[3] ?? Number.NaN))) known = bordersAround(period, timezone, atMs)
    return known
  }
}

function concurrencyNumbers(spec: LimitSpec): MeterNumbers {
  return { capacity: spec.concurrency ?? 0, a: spec.lease === undefined ? DEFAULTS.slotLeaseMs : (periodMs(spec.lease) as number), b: 0 }
}

function numbersOf(spec: LimitSpec, unit: Unit, algorithm: AlgorithmName, windowMs: number): MeterNumbers {
  const limit = spec[unit] as number
  // A bucket of requests holds at least one, however slowly it fills: else none would ever pass.
  const least = limit > 0 && (unit === 'requests' || unit === 'points') ? 1 : 0
  switch (algorithm) {
    case 'token_bucket':
      return { capacity: limit === 0 ? 0 : (spec.burst ?? Math.max(least, limit * (spec.burstMultiplier ?? 1))), a: limit / windowMs, b: 0 }
    case 'leaky_bucket':
      return { capacity: Math.max(least, limit), a: limit / windowMs, b: 0 }
    default:
      return { capacity: limit, a: windowMs, b: windowMs === WEEK ? MONDAY_OFFSET_MS : 0 }
  }
}

export function compileLimit(spec: LimitSpec): CompiledLimit {
  const unit = unitOf(spec)
  const algorithm = unit === 'concurrency' ? 'concurrency' : (spec.algorithm ?? 'token_bucket')
  const windowMs = unit === 'concurrency' ? null : (periodMs(spec.per as string) as number)
  const numbers = windowMs === null ? concurrencyNumbers(spec) : numbersOf(spec, unit, algorithm, windowMs)
  const period = algorithm === 'fixed_window' ? calendarPeriod(spec.per) : null
  const calendar = period !== null && (period === 'month' || spec.timezone !== undefined) ? { borders: bordersOf(period, spec.timezone ?? 'UTC') } : {}
  const name = limitName(spec)
  const id = limitId(name, algorithm, windowMs)
  return { name, id, unit, algorithm, limit: spec[unit] as number, windowMs, ...numbers, slack: ALGORITHMS[algorithm].slack(numbers), ...calendar }
}

/**
 * A rule as the scripts read it (see `lua/lib/batch.lua`), at a time: encoded once, but for the borders of a calendar.
 * @param active how many of the limits hold, the first ones
 */
export function encodeRule(
  priority: number,
  strategy: Strategy,
  limits: readonly CompiledLimit[],
  options = NO_OPTIONS,
  active = limits.length,
): (atMs: number) => string {
  const encodeLimit = ({ id, algorithm, unit, capacity, a, b, borders }: CompiledLimit, atMs: number) => [
    id,
    ALGORITHMS[algorithm].code,
    UNIT_CODES[unit],
    capacity,
    a,
    b,
    ...(borders === undefined ? [] : [borders(atMs)]),
  ]
  // A string within the batch: the scripts know it again as a whole, and read it once.
  const more = active < limits.length || options.some((option, place) => option !== NO_OPTIONS[place]) ? [active, options] : []
  const encode = (atMs: number) => JSON.stringify(JSON.stringify([priority, strictnessOf(strategy), limits.map((limit) => encodeLimit(limit, atMs)), ...more]))
  if (limits.some(({ borders }) => borders !== undefined)) return encode
  const encoded = encode(0)
  return () => encoded
}

/** The codes of the units of cost that limits count, ascending. */
export function countedUnits(limits: readonly CompiledLimit[]): readonly number[] {
  const codes = limits.map(({ unit }) => UNIT_CODES[unit]).filter((code) => code <= COST_UNITS.length)
  return [...new Set(codes)].sort((one, other) => one - other)
}

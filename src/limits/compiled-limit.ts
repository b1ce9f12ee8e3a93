import { COST_UNITS, type CostUnit, type Unit } from '../model/cost.js'
import { DEFAULTS } from '../model/defaults.js'
import { DAY, WEEK } from '../model/time.js'
import { type MeterLimit, type MeterNumbers, NO_NUMBERS } from './algorithm.js'
import { ALGORITHMS, type AlgorithmName } from './algorithms.js'
import { bordersAround, type CalendarPeriod } from './calendar.js'
import { calendarPeriod, type LimitSpec, limitName, periodMs, unitOf } from './limit.js'

/** One limit with its numbers worked out. */
export interface CompiledLimit extends MeterLimit {
  readonly name: string
  /** Under which its usage is kept. */
  readonly id: number
  readonly unit: Unit
  readonly algorithm: AlgorithmName
  /** What it allows per window, as written; for a concurrency the slots. */
  readonly limit: number
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
export function limitId(name: string, algorithm: AlgorithmName = 'token_bucket', windowMs = 0): number {
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
  return { ...NO_NUMBERS, capacity: spec.concurrency ?? 0, leaseMs: spec.lease === undefined ? DEFAULTS.slotLeaseMs : (periodMs(spec.lease) as number) }
}

function numbersOf(spec: LimitSpec, unit: Unit, algorithm: AlgorithmName, windowMs: number): MeterNumbers {
  const limit = spec[unit] as number
  // A bucket of requests holds at least one, however slowly it fills: else none would ever pass.
  const least = limit > 0 && (unit === 'requests' || unit === 'points') ? 1 : 0
  switch (algorithm) {
    case 'token_bucket':
      return {
        ...NO_NUMBERS,
        capacity: limit === 0 ? 0 : (spec.burst ?? Math.max(least, limit * (spec.burstMultiplier ?? 1))),
        rate: limit / windowMs,
        windowMs,
      }
    case 'leaky_bucket':
      return { ...NO_NUMBERS, capacity: Math.max(least, limit), rate: limit / windowMs, windowMs }
    default:
      return { ...NO_NUMBERS, capacity: limit, windowMs, offsetMs: windowMs === WEEK ? MONDAY_OFFSET_MS : 0 }
  }
}

export function compileLimit(spec: LimitSpec): CompiledLimit {
  const unit = unitOf(spec)
  const algorithm = unit === 'concurrency' ? 'concurrency' : (spec.algorithm ?? 'token_bucket')
  const numbers = unit === 'concurrency' ? concurrencyNumbers(spec) : numbersOf(spec, unit, algorithm, periodMs(spec.per as string) as number)
  const period = algorithm === 'fixed_window' ? calendarPeriod(spec.per) : null
  const calendar = period !== null && (period === 'month' || spec.timezone !== undefined) ? { borders: bordersOf(period, spec.timezone ?? 'UTC') } : {}
  const name = limitName(spec)
  const id = limitId(name, algorithm, numbers.windowMs)
  return { name, id, unit, algorithm, limit: spec[unit] as number, ...numbers, slack: ALGORITHMS[algorithm].slack(numbers), ...calendar }
}

/** The units of cost that limits count, in the order of `COST_UNITS`. */
export function countedUnits(limits: readonly CompiledLimit[]): readonly CostUnit[] {
  return COST_UNITS.filter((unit) => limits.some((limit) => limit.unit === unit))
}

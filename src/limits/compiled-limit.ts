import { COST_UNITS, type CostUnit, isEstimated, type Unit } from '../model/cost.js'
import { DEFAULTS } from '../model/defaults.js'
import { DAY, WEEK } from '../model/time.js'
import { type MeterLimit, type MeterNumbers, NO_NUMBERS } from './algorithm.js'
import type { OwnAlgorithm } from './algorithms/custom.js'
import { ALGORITHMS, type AlgorithmName, type NamedAlgorithm, ownName } from './algorithms.js'
import { type Anchor, bordersAround, type CalendarPeriod } from './calendar.js'
import { CALENDAR_FIELDS, calendarPeriod, type LimitSpec, limitName, periodMs, unitOf } from './limit.js'

export interface CompiledLimit extends MeterLimit {
  readonly name: string
  /** The usage of the limit is stored under this id; see `limitId`. */
  readonly id: number
  readonly unit: Unit
  readonly algorithm: AlgorithmName
  /** The amount per window, as written in the rule; for a concurrency the number of slots. */
  readonly limit: number
}

/** Weekly windows begin on Monday; the epoch was a Thursday. */
const MONDAY_OFFSET_MS = 4 * DAY

/** FNV-1a, 32 bit (Fowler, Noll, Vo). */
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0
  return hash
}

/**
 * The id of a limit in packed meters. Its usage is found under it after any change of the limit's numbers. Algorithms whose states have different
 * forms get different ids, and so do sliding windows of different lengths, whose cells differ, and algorithms of a user's own of different texts. The
 * others all store `used` and `debt`, so a limit keeps its usage when it changes between them.
 * @param variant the length of a sliding window, the text of an algorithm of a user's own
 */
export function limitId(name: string, algorithm: AlgorithmName = 'token_bucket', variant: number | string = 0): number {
  switch (algorithm) {
    case 'sliding_window':
    case 'custom':
      return hashOf(`${name}\n${algorithm} ${variant}`)
    case 'sliding_log':
    case 'concurrency':
      return hashOf(`${name}\n${algorithm}`)
    case 'token_bucket':
    case 'leaky_bucket':
    case 'fixed_window':
      return hashOf(name)
    default:
      return algorithm satisfies never
  }
}

/** The borders of a calendar's windows around a time; computed once per window, then cached. */
function bordersOf(period: CalendarPeriod, timezone: string, anchor: Anchor): (atMs: number) => readonly number[] {
  let known: readonly number[] = []
  return (atMs) => {
    if (!(atMs >= (known[2] ?? Number.NaN) && atMs < (known[3] ?? Number.NaN))) known = bordersAround(period, timezone, atMs, anchor)
    return known
  }
}

function concurrencyNumbers(spec: LimitSpec): MeterNumbers {
  return { ...NO_NUMBERS, capacity: spec.concurrency ?? 0, leaseMs: spec.lease === undefined ? DEFAULTS.slotLeaseMs : (periodMs(spec.lease) as number) }
}

function rateNumbers(spec: LimitSpec, unit: Unit, algorithm: Exclude<AlgorithmName, 'concurrency'>): MeterNumbers {
  const limit = spec[unit] as number
  const windowMs = periodMs(spec.per as string) as number
  // A bucket of requests holds at least one, however slowly it refills: otherwise no call would ever pass.
  const least = limit > 0 && (unit === 'requests' || unit === 'points') ? 1 : 0
  switch (algorithm) {
    case 'custom':
    case 'token_bucket': {
      const burst = spec.burst ?? Math.max(least, limit * (spec.burstMultiplier ?? 1))
      return { ...NO_NUMBERS, capacity: limit === 0 ? 0 : burst, rate: limit / windowMs, windowMs }
    }
    case 'leaky_bucket':
      return { ...NO_NUMBERS, capacity: Math.max(least, limit), rate: limit / windowMs, windowMs }
    case 'fixed_window':
    case 'sliding_window':
    case 'sliding_log':
      return { ...NO_NUMBERS, capacity: limit, windowMs, offsetMs: windowMs === WEEK ? MONDAY_OFFSET_MS : 0 }
    default:
      return algorithm satisfies never
  }
}

/** Finds an algorithm of a user's own by its name; throws where there is none. */
export type FindOwn = (name: string) => OwnAlgorithm

/** For limits of which only the numbers are looked at. */
export const anyOwn: FindOwn = (name) => ({ name, lua: '' })

function algorithmOf({ algorithm = 'token_bucket' }: LimitSpec, unit: Unit): AlgorithmName {
  if (unit === 'concurrency') return 'concurrency'
  return ownName(algorithm) === undefined ? (algorithm as NamedAlgorithm) : 'custom'
}

export function compileLimit(spec: LimitSpec, findOwn: FindOwn): CompiledLimit {
  const unit = unitOf(spec)
  const algorithm = algorithmOf(spec, unit)
  const own = algorithm === 'custom' ? findOwn(ownName(spec.algorithm) as string) : undefined
  const numbers = algorithm === 'concurrency' ? concurrencyNumbers(spec) : rateNumbers(spec, unit, algorithm)
  const period = algorithm === 'fixed_window' ? calendarPeriod(spec.per) : null
  // Days and weeks of UTC have a fixed length.
  const isPlain = (period === 'day' || period === 'week') && CALENDAR_FIELDS.every((field) => spec[field] === undefined)
  const calendar = period === null || isPlain ? {} : { borders: bordersOf(period, spec.timezone ?? 'UTC', spec) }
  const name = limitName(spec)
  const id = limitId(name, algorithm, own?.lua ?? numbers.windowMs)
  const slack = ALGORITHMS[algorithm].slack(numbers)
  return {
    name,
    id,
    unit,
    algorithm,
    limit: spec[unit] as number,
    ...numbers,
    slack,
    estimated: isEstimated(unit),
    ...calendar,
    ...(own === undefined ? {} : { own }),
  }
}

/** The units of cost that any of the limits counts, in the order of `COST_UNITS`. */
export function countedUnits(limits: readonly CompiledLimit[]): readonly CostUnit[] {
  return COST_UNITS.filter((unit) => limits.some((limit) => limit.unit === unit))
}

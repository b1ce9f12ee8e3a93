import { z } from 'zod'
import { MAX_AMOUNT } from '../model/call.js'
import { UNITS, type Unit } from '../model/cost.js'
import { DEFAULTS } from '../model/defaults.js'
import { DAY, HOUR, MINUTE, SECOND, WEEK } from '../model/time.js'
import { amount, amounts } from '../validation/call.js'
import { type AlgorithmRef, NAMED_ALGORITHMS, ownName } from './algorithms.js'
import { CALENDAR_PERIODS, type CalendarPeriod, isTimeZone, WEEKDAYS, type Weekday } from './calendar.js'

const PERIODS: Readonly<Record<string, number>> = {
  second: SECOND,
  minute: MINUTE,
  hour: HOUR,
  day: DAY,
  week: WEEK,
  month: 30 * DAY,
  quarter: 90 * DAY,
  year: 365 * DAY,
}
const DURATION_UNITS: Readonly<Record<string, number>> = { ms: 1, s: SECOND, m: MINUTE, h: HOUR, d: DAY, w: WEEK }

/** One tier of a rule, as written in a rules file: exactly one of the units, and its window. */
export interface LimitSpec extends Partial<Record<Unit, number | undefined>> {
  /**
   * The usage is stored under this name; default "<unit>/<per>". A limit that keeps its name keeps its usage when it changes,
   * except when it changes to or from a sliding algorithm, or changes the length of a sliding window.
   */
  name?: string | undefined
  /** The window: second, minute, hour, day, week, month, quarter, year, or a duration from 1ms to 366d such as 10s, 15m. Required, except for concurrency. */
  per?: string | undefined
  /** Default token_bucket. custom:<name>: that of the option `algorithms`. */
  algorithm?: AlgorithmRef | undefined
  /** Token buckets and algorithms of your own only: the most that may pass at once; default: the amount per window. */
  burst?: number | undefined
  /** Of the same: the burst as a multiple of the amount per window; above 0, at most 1000. */
  burstMultiplier?: number | undefined
  /** Only for a fixed window of a day, week, month, quarter or year: the time zone of its calendar, such as Europe/Berlin; default UTC. */
  timezone?: string | undefined
  /** Only for a fixed window of a week: the weekday on which it begins; default monday. */
  startsOn?: Weekday | undefined
  /** Only for a fixed window of a month, quarter or year: the day of its (first) month on which it begins, or the last one of a shorter month; default 1. */
  day?: number | undefined
  /** Only for a fixed window of a calendar: the hour at which it begins, from 0 to 23; default 0. */
  hour?: number | undefined
  /** Concurrency only: how long a slot stays taken after its worker renewed it last, from 1s to 1d; default 30s. */
  lease?: string | undefined
}

/** The length of a `per` in ms; null where it is none. A month is 30 days here, a quarter 90, a year 365; fixed windows use the calendar instead. */
export function periodMs(per: string): number | null {
  if (Object.hasOwn(PERIODS, per)) return PERIODS[per] ?? null
  const [, count, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d|w)$/.exec(per) ?? []
  return unit === undefined ? null : Number(count) * (DURATION_UNITS[unit] ?? Number.NaN)
}

/** Whether a `per` is a window that a limit may have: from 1 ms to 366 days. */
export function isPeriod(per: string): boolean {
  const ms = periodMs(per)
  return ms !== null && ms >= DEFAULTS.shortestWindowMs && ms <= DEFAULTS.longestWindowMs
}

/** The calendar window that a `per` names; null where it names a plain duration. */
export function calendarPeriod(per: string | undefined): CalendarPeriod | null {
  return CALENDAR_PERIODS.find((period) => period === per) ?? null
}

/** The fields of a limit that only windows of a calendar have. */
export const CALENDAR_FIELDS = ['timezone', 'startsOn', 'day', 'hour'] as const

const ANCHORED_BY = { timezone: CALENDAR_PERIODS, startsOn: ['week'], day: ['month', 'quarter', 'year'], hour: CALENDAR_PERIODS } as const

function checkCalendar(limit: LimitSpec, fault: AddFault): void {
  const period = limit.algorithm === 'fixed_window' ? calendarPeriod(limit.per) : null
  for (const field of CALENDAR_FIELDS) {
    const periods: readonly CalendarPeriod[] = ANCHORED_BY[field]
    if (limit[field] === undefined || (period !== null && periods.includes(period))) continue
    fault(field, `is for a fixed_window of a ${periods.length === 1 ? '' : `${periods.slice(0, -1).join(', ')} or `}${periods.at(-1)} only`)
  }
}

/** Whether a rate limit is a bucket, which refills all the time; windows open all at once. */
export function isBucket({ algorithm }: LimitSpec): boolean {
  return algorithm === undefined || algorithm === 'token_bucket' || algorithm === 'leaky_bucket'
}

export function unitOf(limit: LimitSpec): Unit {
  return UNITS.find((candidate) => limit[candidate] !== undefined) ?? 'requests'
}

/** The name of a limit within its rule: its usage is stored under it. */
export function limitName(limit: LimitSpec): string {
  if (limit.name !== undefined) return limit.name
  const unit = unitOf(limit)
  return unit === 'concurrency' ? unit : `${unit}/${limit.per ?? ''}`
}

export const MOST_LIMITS = 32

export const ruleName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'must be 1 to 64 letters, digits, . _ or -, and begin with a letter or digit')

const OWN_ALGORITHM = /^custom:[A-Za-z0-9_-]{1,64}$/
export const algorithmRef = z.union([
  z.enum(NAMED_ALGORITHMS),
  z.custom<`custom:${string}`>((value) => typeof value === 'string' && OWN_ALGORITHM.test(value), 'must be custom:<name>'),
])

const per = z.string().superRefine((value, context) => {
  const ms = periodMs(value)
  if (ms === null) context.addIssue({ code: 'custom', message: 'must be second, minute, hour, day, week, month, quarter, year or a duration such as 10s, 15m' })
  else if (!isPeriod(value)) context.addIssue({ code: 'custom', message: 'must be at least 1ms and at most 366d' })
})

const lease = z.string().refine((value) => {
  const ms = periodMs(value)
  return ms !== null && ms >= DEFAULTS.shortestLeaseMs && ms <= DAY
}, 'must be a duration from 1s to 1d')

type AddFault = (path: string, message: string) => void

/** The units of which a call costs 1 by default: in a limit below 1 no call would ever pass. */
const ONE_PER_CALL: readonly Unit[] = ['requests', 'points']

function checkConcurrency(limit: LimitSpec, fault: AddFault): void {
  for (const field of ['per', 'algorithm', 'burst', 'burstMultiplier', ...CALENDAR_FIELDS] as const) {
    if (limit[field] !== undefined) fault(field, 'contradicts concurrency, which counts calls that run at once and has no window')
  }
}

function checkBucket(limit: LimitSpec, unit: Unit, fault: AddFault): void {
  const value = limit[unit] ?? 0
  if (limit.burst !== undefined && limit.burstMultiplier !== undefined) fault('burstMultiplier', 'contradicts burst: give one of them')
  if (value > 0 && limit.burst === 0) fault('burst', 'must be above 0: nothing could ever pass; to close the limit set it to 0')
  else if (ONE_PER_CALL.includes(unit) && value > 0 && limit.burst !== undefined && limit.burst < 1)
    fault('burst', 'must be at least 1, or no call could ever pass; to close the limit set it to 0')
}

function checkWindow(limit: LimitSpec, unit: Unit, algorithm: AlgorithmRef, fault: AddFault): void {
  const value = limit[unit] ?? 0
  for (const field of ['burst', 'burstMultiplier'] as const) {
    if (limit[field] !== undefined) fault(field, `contradicts ${algorithm}, which has no burst`)
  }
  if (algorithm !== 'leaky_bucket' && ONE_PER_CALL.includes(unit) && value > 0 && value < 1)
    fault(unit, `must be at least 1 in a ${algorithm}, or no call could ever pass; to close the limit set it to 0`)
}

export const burstMultiplier = z.number('must be a number above 0, at most 1000').positive().max(1000)

export const limitSchema = z
  .strictObject({
    name: ruleName.optional(),
    ...amounts,
    concurrency: amount.int().optional(),
    per: per.optional(),
    algorithm: algorithmRef.optional(),
    burst: amount.optional(),
    burstMultiplier: burstMultiplier.optional(),
    timezone: z.string().refine(isTimeZone, 'must be a time zone such as Europe/Berlin or UTC').optional(),
    startsOn: z.enum(WEEKDAYS).optional(),
    day: z.number('must be a whole number from 1 to 31').int().min(1).max(31).optional(),
    hour: z.number('must be a whole number from 0 to 23').int().min(0).max(23).optional(),
    lease: lease.optional(),
  })
  .superRefine((limit, context) => {
    const fault: AddFault = (path, message) => context.addIssue({ code: 'custom', path: [path], message })
    const units = UNITS.filter((unit) => limit[unit] !== undefined)
    const unit = units[0]
    if (unit === undefined || units.length > 1) {
      context.addIssue({ code: 'custom', message: `must name exactly one of ${UNITS.join(', ')}; it names ${units.join(', ') || 'none'}` })
      return
    }
    if (unit === 'concurrency') return checkConcurrency(limit, fault)
    const algorithm = limit.algorithm ?? 'token_bucket'
    if (limit.lease !== undefined) fault('lease', 'is for concurrency only')
    if (limit.per === undefined) fault('per', 'is required: the window of the limit')
    checkCalendar(limit, fault)
    if (algorithm === 'token_bucket' || ownName(algorithm) !== undefined) checkBucket(limit, unit, fault)
    else checkWindow(limit, unit, algorithm, fault)
  })

/** Multiplies a limit, and its burst where it has one. At least one call stays allowed: an override that is to close a rule gives limits of 0 instead. */
export function scaleLimit(spec: LimitSpec, times: number): LimitSpec {
  const unit = unitOf(spec)
  const perCall = ONE_PER_CALL.includes(unit)
  const scale = (value: number, least: number) => (value === 0 ? 0 : Math.min(MAX_AMOUNT, Math.max(least, value * times)))
  const value = spec[unit] ?? 0
  if (unit === 'concurrency') return { ...spec, concurrency: Math.floor(scale(value, 1)) }
  // A bucket may refill by less than one call per window, as long as it holds one.
  const bucket = isBucket(spec)
  const scaled = { ...spec, [unit]: scale(value, perCall && !bucket ? Math.min(1, value) : 0) }
  return spec.burst === undefined ? scaled : { ...scaled, burst: scale(spec.burst, perCall ? Math.min(1, spec.burst) : 0) }
}

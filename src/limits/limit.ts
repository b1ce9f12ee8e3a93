import { z } from 'zod'
import { MAX_AMOUNT } from '../model/call.js'
import { UNITS, type Unit } from '../model/cost.js'
import { DEFAULTS } from '../model/defaults.js'
import { DAY, HOUR, MINUTE, SECOND, WEEK } from '../model/time.js'
import { amount, amounts } from '../validation/call.js'
import { NAMED_ALGORITHMS, type NamedAlgorithm } from './algorithms.js'
import { type CalendarPeriod, isTimeZone } from './calendar.js'

const PERIODS: Readonly<Record<string, number>> = { second: SECOND, minute: MINUTE, hour: HOUR, day: DAY, week: WEEK, month: 30 * DAY }
const DURATION_UNITS: Readonly<Record<string, number>> = { ms: 1, s: SECOND, m: MINUTE, h: HOUR, d: DAY, w: WEEK }

/** One tier of a rule, as written in a rules file: exactly one of the units, and its window. */
export interface LimitSpec extends Partial<Record<Unit, number | undefined>> {
  /** Keeps the usage through changes, but to or from a sliding algorithm, or of a sliding window's length; default "<unit>/<per>". */
  name?: string | undefined
  /** second, minute, hour, day, week, month or a duration such as 10s, 15m. */
  per?: string | undefined
  /** Default token_bucket. */
  algorithm?: NamedAlgorithm | undefined
  /** What a token bucket holds; default its limit. */
  burst?: number | undefined
  /** The burst as a multiple of the limit. */
  burstMultiplier?: number | undefined
  /** Of a fixed window of a day, week or month: whose calendar; default UTC. */
  timezone?: string | undefined
  /** Of a concurrency: how long a slot outlives the last sign of life of its worker; default 30s. */
  lease?: string | undefined
}

/** Milliseconds of a `per`, or null if it is not one. A month is 30 days, but for a fixed window, which has a calendar. */
export function periodMs(per: string): number | null {
  if (Object.hasOwn(PERIODS, per)) return PERIODS[per] ?? null
  const parts = /^(\d+(?:\.\d+)?)(ms|s|m|h|d|w)$/.exec(per)
  const unit = parts?.[2]
  return unit === undefined ? null : Number(parts?.[1]) * (DURATION_UNITS[unit] ?? Number.NaN)
}

/** Whether a `per` names a window that a limit can have. */
export function isPeriod(per: string): boolean {
  const ms = periodMs(per)
  return ms !== null && ms >= DEFAULTS.shortestWindowMs && ms <= DEFAULTS.longestWindowMs
}

/** The calendar's window that a `per` names, or null. */
export function calendarPeriod(per: string | undefined): CalendarPeriod | null {
  return per === 'day' || per === 'week' || per === 'month' ? per : null
}

/** The unit that a valid limit counts. */
export function unitOf(limit: LimitSpec): Unit {
  return UNITS.find((candidate) => limit[candidate] !== undefined) ?? 'requests'
}

/** The name of a limit within its rule, under which its usage is kept. */
export function limitName(limit: LimitSpec): string {
  if (limit.name !== undefined) return limit.name
  const unit = unitOf(limit)
  return unit === 'concurrency' ? unit : `${unit}/${limit.per ?? ''}`
}

/** How many limits a rule may have, or a limiter. */
export const MOST_LIMITS = 32

export const ruleName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'must be 1 to 64 letters, digits, . _ or -, and begin with a letter or digit')

const per = z.string().superRefine((value, context) => {
  const ms = periodMs(value)
  if (ms === null) context.addIssue({ code: 'custom', message: 'must be second, minute, hour, day, week, month or a duration such as 10s, 15m' })
  else if (!isPeriod(value)) context.addIssue({ code: 'custom', message: 'must be at least 1ms and at most 366d' })
})

const lease = z.string().refine((value) => {
  const ms = periodMs(value)
  return ms !== null && ms >= DEFAULTS.shortestLeaseMs && ms <= DAY
}, 'must be a duration from 1s to 1d')

type Fault = (path: string, message: string) => void

/** Calls cost a request each: less than one of them never passes. */
const ONE_PER_CALL: readonly Unit[] = ['requests', 'points']

function checkConcurrency(limit: LimitSpec, fault: Fault): void {
  for (const field of ['per', 'algorithm', 'burst', 'burstMultiplier', 'timezone'] as const) {
    if (limit[field] !== undefined) fault(field, 'contradicts concurrency, which counts calls that run at once and has no window')
  }
}

function checkBucket(limit: LimitSpec, unit: Unit, fault: Fault): void {
  const value = limit[unit] ?? 0
  if (limit.burst !== undefined && limit.burstMultiplier !== undefined) fault('burstMultiplier', 'contradicts burst: give one of them')
  if (value > 0 && limit.burst === 0) fault('burst', 'must be above 0: nothing could ever pass; to close the limit set it to 0')
  else if (ONE_PER_CALL.includes(unit) && value > 0 && limit.burst !== undefined && limit.burst < 1)
    fault('burst', 'must be at least 1, or no call could ever pass; to close the limit set it to 0')
}

function checkWindow(limit: LimitSpec, unit: Unit, algorithm: NamedAlgorithm, fault: Fault): void {
  const value = limit[unit] ?? 0
  for (const field of ['burst', 'burstMultiplier'] as const) {
    if (limit[field] !== undefined) fault(field, `contradicts ${algorithm}, which has no burst`)
  }
  if (algorithm !== 'leaky_bucket' && ONE_PER_CALL.includes(unit) && value > 0 && value < 1)
    fault(unit, `must be at least 1 in a ${algorithm}, or no call could ever pass; to close the limit set it to 0`)
}

export const limitSchema = z
  .strictObject({
    name: ruleName.optional(),
    ...amounts,
    concurrency: amount.int().optional(),
    per: per.optional(),
    algorithm: z.enum(NAMED_ALGORITHMS).optional(),
    burst: amount.optional(),
    burstMultiplier: z.number('must be a number above 0, at most 1000').positive().max(1000).optional(),
    timezone: z.string().refine(isTimeZone, 'must be a time zone such as Europe/Berlin or UTC').optional(),
    lease: lease.optional(),
  })
  .superRefine((limit, context) => {
    const fault: Fault = (path, message) => context.addIssue({ code: 'custom', path: [path], message })
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
    if (limit.timezone !== undefined && (algorithm !== 'fixed_window' || calendarPeriod(limit.per) === null))
      fault('timezone', 'is for a fixed_window of a day, week or month only')
    if (algorithm === 'token_bucket') checkBucket(limit, unit, fault)
    else checkWindow(limit, unit, algorithm, fault)
  })

/**
 * A limit, and the burst that it names, times a number. Where less than one call would be
 * left, one is: an override that shall close a rule says limits of 0.
 */
export function scaleLimit(spec: LimitSpec, times: number): LimitSpec {
  const unit = unitOf(spec)
  const perCall = unit === 'requests' || unit === 'points'
  const scale = (value: number, least: number) => (value === 0 ? 0 : Math.min(MAX_AMOUNT, Math.max(least, value * times)))
  const value = spec[unit] ?? 0
  if (unit === 'concurrency') return { ...spec, concurrency: Math.floor(scale(value, 1)) }
  // A bucket may fill more slowly than with one call per window, but must hold one.
  const bucket = spec.algorithm === undefined || spec.algorithm === 'token_bucket' || spec.algorithm === 'leaky_bucket'
  const scaled = { ...spec, [unit]: scale(value, perCall && !bucket ? Math.min(1, value) : 0) }
  return spec.burst === undefined ? scaled : { ...scaled, burst: scale(spec.burst, perCall ? Math.min(1, spec.burst) : 0) }
}

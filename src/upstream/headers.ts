import { MAX_AMOUNT } from '../model/call.js'
import type { CostUnit } from '../model/cost.js'
import { DAY, HOUR, MINUTE, SECOND } from '../model/time.js'
import type { HeadersLike, ObservedLimit, ObservedLimits } from '../model/upstream.js'

/** A header's value by its name in small letters; undefined where it is not there. */
export type ReadHeader = (name: string) => string | undefined

export function headerReader(headers: HeadersLike): ReadHeader {
  if (headers instanceof Headers || ('get' in headers && typeof headers.get === 'function')) {
    const get = (headers as Headers).get.bind(headers)
    return (name) => get(name)?.trim()
  }
  const small = new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))
  return (name) => {
    const value = small.get(name)
    const one = Array.isArray(value) ? value[0] : value
    return one === undefined || one === null ? undefined : String(one).trim()
  }
}

/** When an answer was sent by the agent's clock, so that times it names are told from that; ours where it does not say. */
export function sentAtMs(read: ReadHeader): number {
  const date = Date.parse(read('date') ?? '')
  return Number.isNaN(date) ? Date.now() : date
}

const LONGEST_RESET_MS = 31 * DAY
const DURATION_MS: Readonly<Record<string, number>> = { ms: 1, s: SECOND, m: MINUTE, h: HOUR, d: DAY }

/** A number as it should be, or undefined: -1, NaN and what no agent allows say nothing. */
function numberOf(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d+(\.\d+)?$/.test(text)) return undefined
  const value = Number(text)
  return value <= MAX_AMOUNT ? value : undefined
}

/** Milliseconds of `6m0s`, `1s`, `20ms`, `1h2m3.5s` or a number of seconds; undefined where it is none. */
export function durationMs(text: string | undefined): number | undefined {
  const seconds = numberOf(text)
  if (seconds !== undefined) return believed(seconds * SECOND)
  if (text === undefined || !/^(\d+(\.\d+)?(ms|s|m|h|d))+$/.test(text)) return undefined
  let sum = 0
  for (const [, value, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)) sum += Number(value) * (DURATION_MS[unit as string] as number)
  return believed(sum)
}

const RFC_3339 = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/

/** Milliseconds until a date of RFC 3339; what is past is now. */
function untilDateMs(text: string | undefined, nowMs: number): number | undefined {
  if (text === undefined || !RFC_3339.test(text)) return undefined
  const date = Date.parse(text)
  return Number.isNaN(date) ? undefined : believed(Math.max(0, date - nowMs))
}

function believed(ms: number): number | undefined {
  return ms <= LONGEST_RESET_MS ? ms : undefined
}

/** A window that limit, remaining and reset come to, where they come to one that is usual: how fast it fills says how long it is. */
function windowOf(limit: number, remaining: number | null, resetMs: number | null): number | null {
  if (remaining === null || resetMs === null || resetMs === 0 || remaining >= limit) return null
  const ms = (limit * resetMs) / (limit - remaining)
  return [MINUTE, DAY].find((window) => ms > window / 1.5 && ms < window * 1.5) ?? null
}

function observedLimit(limitText: string | undefined, remainingText: string | undefined, reset: number | undefined): Omit<ObservedLimit, 'windowMs'> | null {
  const limit = numberOf(limitText)
  // 0 is no limit that anybody could call under: it means that there is none, or none is told.
  if (limit === undefined || limit === 0) return null
  const remaining = numberOf(remainingText)
  return { limit, remaining: remaining === undefined || remaining > limit ? null : remaining, resetMs: reset ?? null }
}

const OPENAI: readonly (readonly [CostUnit, string])[] = [
  ['requests', 'requests'],
  ['tokens', 'tokens'],
]
const ANTHROPIC: readonly (readonly [CostUnit, string])[] = [...OPENAI, ['inputTokens', 'input-tokens'], ['outputTokens', 'output-tokens']]

/**
 * What an answer's headers tell of the agent's limits: OpenAI's `x-ratelimit-*`, or
 * Anthropic's `anthropic-ratelimit-*`, whose windows are minutes. Null where they tell nothing.
 * @param nowMs when it was sent
 */
export function readLimits(headers: HeadersLike, nowMs?: number): ObservedLimits | null {
  const read = headerReader(headers)
  const atMs = nowMs ?? sentAtMs(read)
  const found: Partial<Record<CostUnit, ObservedLimit>> = {}
  for (const [unit, name] of ANTHROPIC) {
    const of = (what: string) => read(`anthropic-ratelimit-${name}-${what}`)
    const one = observedLimit(of('limit'), of('remaining'), untilDateMs(of('reset'), atMs))
    if (one !== null) found[unit] = { ...one, windowMs: MINUTE }
  }
  for (const [unit, name] of OPENAI) {
    const of = (what: string) => read(`x-ratelimit-${what}-${name}`)
    const one = observedLimit(of('limit'), of('remaining'), durationMs(of('reset')))
    if (one !== null) found[unit] = { ...one, windowMs: windowOf(one.limit, one.remaining, one.resetMs) }
  }
  return Object.keys(found).length === 0 ? null : found
}

/** How long nobody is to go where an agent says that nothing is left: until about one unit is back. 0 = there is something left. */
export function pauseMs(limits: ObservedLimits): number {
  const pauses = Object.values(limits).map(({ limit, remaining, resetMs }) => (remaining === 0 && resetMs !== null ? resetMs / limit : 0))
  const longest = Math.max(0, ...pauses)
  return longest < 1 ? 0 : longest
}

// Date.parse reads a date into nearly anything, into "-5" too.
const HTTP_DATE = /^[A-Z][a-z]{2,8},? .*\d\d:\d\d:\d\d( GMT|$| \d{4}$)/

/**
 * Milliseconds that an agent asked to be left alone for: `retry-after-ms`, or
 * `Retry-After` in seconds or as a date (RFC 9110). Undefined where it did not say.
 * @param nowMs when it was sent; by its own `Date` where it has one, so that skew between clocks changes nothing
 */
export function readRetryAfter(headers: HeadersLike, nowMs?: number): number | undefined {
  const read = headerReader(headers)
  const exact = read('retry-after-ms')
  if (exact !== undefined && /^\d+(\.\d+)?$/.test(exact)) return Number(exact)
  const value = read('retry-after')
  if (value === undefined || value === '') return undefined
  if (/^\d+(\.\d+)?$/.test(value)) return Number(value) * 1000
  if (!HTTP_DATE.test(value)) return undefined
  const date = Date.parse(value.endsWith('GMT') ? value : `${value} GMT`)
  return Number.isNaN(date) ? undefined : Math.max(0, date - (nowMs ?? sentAtMs(read)))
}

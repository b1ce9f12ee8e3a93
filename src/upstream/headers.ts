import { MAX_AMOUNT } from '../model/call.js'
import type { CostUnit } from '../model/cost.js'
import { DAY, HOUR, MINUTE, SECOND } from '../model/time.js'
import type { HeadersLike, ObservedLimit, ObservedLimits } from '../model/upstream.js'

/** Gives the value of a header by its name in lower case; undefined where the header is missing. */
type ReadHeader = (name: string) => string | undefined

/** Reads the headers of an answer. What cannot be read counts as missing: headers of a user's own client may be made of anything. */
function headerReader(headers: HeadersLike): ReadHeader {
  let getter: Headers | null | undefined
  let byName: ReadonlyMap<string, unknown> | undefined
  const read = (name: string): string | undefined => {
    getter ??= headers instanceof Headers || ('get' in headers && typeof headers.get === 'function') ? (headers as Headers) : null
    if (getter !== null) return text(getter.get(name))
    byName ??= new Map(Object.entries(headers).map(([own, value]) => [own.toLowerCase(), value]))
    const value = byName.get(name)
    return text(Array.isArray(value) ? value[0] : value)
  }
  return (name) => {
    try {
      return read(name)
    } catch {
      return undefined
    }
  }
}

function text(value: unknown): string | undefined {
  return value === undefined || value === null ? undefined : String(value).trim()
}

/** A header by its name in lower case; undefined where it is missing, or cannot be read. */
export function headerOf(headers: HeadersLike, name: string): string | undefined {
  return headerReader(headers)(name)
}

/** When an answer was sent, by its `Date` header, so that times in it are relative to the agent's own clock; else by this machine's clock. */
function sentAtMs(read: ReadHeader): number {
  const date = Date.parse(read('date') ?? '')
  return Number.isNaN(date) ? Date.now() : date
}

/** Longer times until a reset are taken for errors and ignored. */
const LONGEST_RESET_MS = 31 * DAY
const DURATION_MS: Readonly<Record<string, number>> = { ms: 1, s: SECOND, m: MINUTE, h: HOUR, d: DAY }

/** The number in a header. Missing, -1, NaN and out-of-range values are ignored (undefined). */
function numberOf(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d+(\.\d+)?$/.test(text)) return undefined
  const value = Number(text)
  return value <= MAX_AMOUNT ? value : undefined
}

/** A duration such as `6m0s`, `20ms`, `1h2m3.5s` or a number of seconds, in ms; undefined where the text is none. */
export function durationMs(text: string | undefined): number | undefined {
  const seconds = numberOf(text)
  if (seconds !== undefined) return plausibleReset(seconds * SECOND)
  if (text === undefined || !/^(\d+(\.\d+)?(ms|s|m|h|d))+$/.test(text)) return undefined
  let sum = 0
  for (const [, value, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)) sum += Number(value) * (DURATION_MS[unit as string] as number)
  return plausibleReset(sum)
}

const RFC_3339 = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/

/** Milliseconds from `nowMs` until a date (RFC 3339); 0 where it is past. */
function untilDateMs(text: string | undefined, nowMs: number): number | undefined {
  if (text === undefined || !RFC_3339.test(text)) return undefined
  const date = Date.parse(text)
  return Number.isNaN(date) ? undefined : plausibleReset(Math.max(0, date - nowMs))
}

function plausibleReset(ms: number): number | undefined {
  return ms <= LONGEST_RESET_MS ? ms : undefined
}

/**
 * The window that follows from how fast a limit refills: the used part needs `resetMs`, so all of it
 * needs `limit / used` times as long. Null unless that is about a minute or a day, the usual windows.
 */
function impliedWindow(limit: number, remaining: number | null, resetMs: number | null): number | null {
  if (remaining === null || resetMs === null || resetMs === 0 || remaining >= limit) return null
  const ms = (limit * resetMs) / (limit - remaining)
  return [MINUTE, DAY].find((window) => ms > window / 1.5 && ms < window * 1.5) ?? null
}

function observedLimit(limitText: string | undefined, remainingText: string | undefined, reset: number | undefined): Omit<ObservedLimit, 'windowMs'> | null {
  const limit = numberOf(limitText)
  // Agents report 0 where they have no such limit: under a real limit of 0 there would be no answer.
  if (limit === undefined || limit === 0) return null
  const remaining = numberOf(remainingText)
  return { limit, remaining: remaining === undefined || remaining > limit ? null : remaining, resetMs: reset ?? null }
}

interface LimitHeaders {
  readonly unit: CostUnit
  readonly limit: string
  readonly remaining: string
  readonly reset: string
}

function headersNamed(unit: CostUnit, named: (what: string) => string): LimitHeaders {
  return { unit, limit: named('limit'), remaining: named('remaining'), reset: named('reset') }
}

const OPENAI: readonly LimitHeaders[] = [
  headersNamed('requests', (what) => `x-ratelimit-${what}-requests`),
  headersNamed('tokens', (what) => `x-ratelimit-${what}-tokens`),
]
const ANTHROPIC: readonly LimitHeaders[] = [
  headersNamed('requests', (what) => `anthropic-ratelimit-requests-${what}`),
  headersNamed('tokens', (what) => `anthropic-ratelimit-tokens-${what}`),
  headersNamed('inputTokens', (what) => `anthropic-ratelimit-input-tokens-${what}`),
  headersNamed('outputTokens', (what) => `anthropic-ratelimit-output-tokens-${what}`),
]

/**
 * The limits that the headers of an answer report: OpenAI's `x-ratelimit-*`, or Anthropic's
 * `anthropic-ratelimit-*`, whose windows are minutes. Null where there are none.
 * @param nowMs when the answer was sent; default: its `Date`
 */
export function readLimits(headers: HeadersLike, nowMs?: number): ObservedLimits | null {
  const read = headerReader(headers)
  const found: Partial<Record<CostUnit, ObservedLimit>> = {}
  for (const { unit, limit, remaining, reset } of ANTHROPIC) {
    const limitText = read(limit)
    if (limitText === undefined) continue
    const one = observedLimit(limitText, read(remaining), untilDateMs(read(reset), nowMs ?? sentAtMs(read)))
    if (one !== null) found[unit] = { ...one, windowMs: MINUTE }
  }
  for (const { unit, limit, remaining, reset } of OPENAI) {
    const limitText = read(limit)
    if (limitText === undefined) continue
    const one = observedLimit(limitText, read(remaining), durationMs(read(reset)))
    if (one !== null) found[unit] = { ...one, windowMs: impliedWindow(one.limit, one.remaining, one.resetMs) }
  }
  return Object.keys(found).length === 0 ? null : found
}

/** How long to send no call because a limit has nothing left, in ms: until about one unit of it is back. 0 = every limit has something left. */
export function pauseMs(limits: ObservedLimits): number {
  const pauses = Object.values(limits).map(({ limit, remaining, resetMs }) => (remaining === 0 && resetMs !== null ? resetMs / limit : 0))
  const longest = Math.max(0, ...pauses)
  return longest < 1 ? 0 : longest
}

// Date.parse accepts nearly any text, even "-5".
const HTTP_DATE = /^[A-Z][a-z]{2,8},? .*\d\d:\d\d:\d\d( GMT|$| \d{4}$)/

/**
 * How long an agent asked to wait, in ms: `retry-after-ms`, or `Retry-After` in seconds or as a date (RFC 9110). Undefined where it has neither.
 * @param nowMs when the answer was sent; default: its `Date`, so that skew between the clocks does not matter
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

const TOLD_NAMES = [...OPENAI, ...ANTHROPIC].flatMap(({ limit, remaining, reset }) => [limit, remaining, reset])
const LONGEST_TOLD = 80

/** The rate-limit headers of an answer as they are, for the history of its call; undefined where there are none. */
export function toldLimits(headers: HeadersLike): Readonly<Record<string, string>> | undefined {
  const read = headerReader(headers)
  const found: Record<string, string> = {}
  for (const name of ['retry-after', 'retry-after-ms', ...TOLD_NAMES]) {
    const value = read(name)
    if (value !== undefined && value !== '') found[name] = value.slice(0, LONGEST_TOLD)
  }
  return Object.keys(found).length === 0 ? undefined : found
}

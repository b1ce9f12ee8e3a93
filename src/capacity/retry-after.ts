import type { HeadersLike } from '../headers-like.js'
import { headerReader, sentAtMs } from './headers.js'

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

// Date.parse reads a date into nearly anything, into "-5" too.
const HTTP_DATE = /^[A-Z][a-z]{2,8},? .*\d\d:\d\d:\d\d( GMT|$| \d{4}$)/

/**
 * Milliseconds that an agent asked to be left alone for: `retry-after-ms`, or
 * `Retry-After` in seconds or as a date (RFC 9110). Undefined where it did not say.
 */
export function readRetryAfter(headers: Headers, nowMs = Date.now()): number | undefined {
  const exact = headers.get('retry-after-ms')
  if (exact !== null && /^\d+(\.\d+)?$/.test(exact)) return Number(exact)
  const value = headers.get('retry-after')?.trim()
  if (value === undefined || value === '') return undefined
  if (/^\d+(\.\d+)?$/.test(value)) return Number(value) * 1000
  if (!HTTP_DATE.test(value)) return undefined
  const date = Date.parse(value.endsWith('GMT') ? value : `${value} GMT`)
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs)
}

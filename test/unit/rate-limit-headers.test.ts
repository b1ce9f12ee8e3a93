import { expect, test } from 'vitest'
import { durationMs, pauseMs, readLimits, readRetryAfter } from '../../src/upstream/headers.js'

const NOW = Date.UTC(2026, 0, 1, 12, 0, 0)

test.each([
  ['6m0s', 360_000],
  ['1s', 1000],
  ['20ms', 20],
  ['8.64s', 8640],
  ['1h2m3.5s', 3_723_500],
  ['0.5', 500],
  ['0s', 0],
  ['-1', undefined],
  ['', undefined],
  ['soon', undefined],
  ['1s later', undefined],
  ['NaN', undefined],
  ['999999h', undefined],
  [undefined, undefined],
])('%s is a reset of %s ms', (text, ms) => {
  expect(durationMs(text)).toBe(ms)
})

test("OpenAI's headers are read for requests and tokens, with a window worked out from the rate at which they refill", () => {
  const limits = readLimits({
    'x-ratelimit-limit-requests': '60',
    'x-ratelimit-remaining-requests': '59',
    'x-ratelimit-reset-requests': '1s',
    'x-ratelimit-limit-tokens': '150000',
    'x-ratelimit-remaining-tokens': '149984',
    'x-ratelimit-reset-tokens': '6ms',
  })
  expect(limits).toEqual({
    requests: { limit: 60, remaining: 59, resetMs: 1000, windowMs: 60_000 },
    tokens: { limit: 150_000, remaining: 149_984, resetMs: 6, windowMs: 60_000 },
  })
  const aDay = readLimits({ 'x-ratelimit-limit-requests': '200', 'x-ratelimit-remaining-requests': '199', 'x-ratelimit-reset-requests': '7m12s' })
  expect(aDay?.requests?.windowMs).toBe(86_400_000)
})

test("Anthropic's headers are read with windows of a minute, and reset dates relative to the Date of the answer", () => {
  const limits = readLimits(
    new Headers({
      // Years from the clock of this machine.
      date: 'Tue, 01 Jan 2030 00:00:00 GMT',
      'anthropic-ratelimit-requests-limit': '50',
      'anthropic-ratelimit-requests-remaining': '0',
      'anthropic-ratelimit-requests-reset': '2030-01-01T00:00:30Z',
      'anthropic-ratelimit-input-tokens-limit': '40000',
      'anthropic-ratelimit-output-tokens-limit': '8000',
      'anthropic-ratelimit-output-tokens-reset': 'tomorrow',
    }),
  )
  expect(limits).toEqual({
    requests: { limit: 50, remaining: 0, resetMs: 30_000, windowMs: 60_000 },
    inputTokens: { limit: 40_000, remaining: null, resetMs: null, windowMs: 60_000 },
    outputTokens: { limit: 8000, remaining: null, resetMs: null, windowMs: 60_000 },
  })
  expect(pauseMs(limits ?? {}), 'until about one request is refilled').toBe(600)
})

test.each([
  ['missing', {}],
  ['-1', { 'x-ratelimit-limit-requests': '-1' }],
  ['0', { 'x-ratelimit-limit-requests': '0', 'x-ratelimit-remaining-requests': '0', 'x-ratelimit-reset-requests': '1s' }],
  ['NaN', { 'x-ratelimit-limit-requests': 'NaN' }],
  ['absurd', { 'x-ratelimit-limit-requests': '1e99' }],
  ['above the largest amount', { 'x-ratelimit-limit-requests': '99999999999999' }],
])('a limit that is %s is ignored', (_, headers) => {
  expect(readLimits(headers, NOW)).toBeNull()
})

test('a remaining of -1, above the limit or without a number is ignored, and causes no pause', () => {
  for (const remaining of ['-1', '70', 'many']) {
    const limits = readLimits({ 'X-RateLimit-Limit-Requests': '60', 'X-RateLimit-Remaining-Requests': remaining, 'X-RateLimit-Reset-Requests': '1s' })
    expect(limits?.requests).toEqual({ limit: 60, remaining: null, resetMs: 1000, windowMs: null })
    expect(pauseMs(limits ?? {})).toBe(0)
  }
})

test('a date in Retry-After is relative to the Date of its answer, however far the clocks are apart', () => {
  expect(readRetryAfter({ date: 'Thu, 01 Jan 2026 11:00:00 GMT', 'retry-after': 'Thu, 01 Jan 2026 11:00:20 GMT' })).toBe(20_000)
})

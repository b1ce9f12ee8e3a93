import { expect, test } from 'vitest'
import { readRetryAfter } from '../../src/upstream/headers.js'

const NOW = Date.UTC(2026, 0, 1, 12, 0, 0)
const read = (headers: Record<string, string>) => readRetryAfter(new Headers(headers), NOW)

test.each([
  ['0', 0],
  ['1', 1000],
  ['120', 120_000],
  ['1.5', 1500],
  ['  7  ', 7000],
])('Retry-After: %j is that many seconds', (value, ms) => {
  expect(read({ 'retry-after': value })).toBe(ms)
})

test.each([
  ['Thu, 01 Jan 2026 12:00:30 GMT', 30_000],
  ['Thursday, 01-Jan-26 12:01:00 GMT', 60_000],
  ['Thu Jan  1 12:00:05 2026', 5000],
])('Retry-After: %j is a date', (value, ms) => {
  expect(read({ 'retry-after': value })).toBe(ms)
})

test('a date without a zone is in GMT, whatever the time zone of the process', () => {
  const zone = process.env['TZ']
  process.env['TZ'] = 'America/New_York'
  try {
    expect(new Date(0).getTimezoneOffset()).toBe(300)
    expect(read({ 'retry-after': 'Thu Jan  1 12:00:05 2026' })).toBe(5000)
  } finally {
    if (zone === undefined) delete process.env['TZ']
    else process.env['TZ'] = zone
  }
})

test('a date in the past is now', () => {
  expect(read({ 'retry-after': 'Sun, 06 Nov 1994 08:49:37 GMT' })).toBe(0)
})

test('retry-after-ms is exact and goes before Retry-After', () => {
  expect(read({ 'retry-after-ms': '250', 'retry-after': '1' })).toBe(250)
  expect(read({ 'retry-after-ms': '12.5' })).toBe(12.5)
  expect(read({ 'retry-after-ms': 'soon', 'retry-after': '1' })).toBe(1000)
})

test.each(['', '-5', '1e3', 'soon', 'soon 5', '1,5', '5 seconds', '0x10', 'NaN', 'Infinity', '12:00:30', 'Thu, 99 Foo 2026 99:99:99 GMT'])(
  'Retry-After: %j is ignored',
  (value) => {
    expect(read({ 'retry-after': value })).toBeUndefined()
  },
)

test('without a header there is no time', () => {
  expect(read({})).toBeUndefined()
})

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Anchor, bordersAround, CALENDAR_PERIODS, type CalendarPeriod, WEEKDAYS } from '../../src/limits/calendar.js'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR
const ZONES = ['UTC', 'Europe/Berlin', 'America/New_York', 'America/Havana', 'Australia/Lord_Howe', 'Asia/Kathmandu', 'Africa/Cairo', 'America/Santiago']

/** What the clocks of a zone show, in ms as if it were UTC: read another way than by the calendar under test. */
function shownMs(timeZone: string): (atMs: number) => number {
  const format = new Intl.DateTimeFormat('en-US', {
    ...{ timeZone, hourCycle: 'h23', year: 'numeric', month: 'numeric', day: 'numeric' },
    ...{ hour: 'numeric', minute: 'numeric', second: 'numeric' },
  })
  return (atMs) => {
    const of = Object.fromEntries(format.formatToParts(atMs).map(({ type, value }) => [type, Number(value)]))
    return Date.UTC(of['year'] as number, (of['month'] as number) - 1, of['day'], of['hour'], of['minute'], of['second'])
  }
}

/** The first day of the window that holds a day, found by going back from it. */
function firstDay(period: CalendarPeriod, { startsOn = 'monday', day = 1 }: Anchor, from: number): number {
  for (let at = from; ; at--) {
    const date = new Date(at * DAY)
    const lastOfMonth = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate()
    const isAnchored = date.getUTCDate() === Math.min(day, lastOfMonth)
    if (period === 'day') return at
    if (period === 'week' && WEEKDAYS[(date.getUTCDay() + 6) % 7] === startsOn) return at
    if (period === 'month' && isAnchored) return at
    if (period === 'quarter' && isAnchored && date.getUTCMonth() % 3 === 0) return at
    if (period === 'year' && isAnchored && date.getUTCMonth() === 0) return at
  }
}

const anchor = fc.record({ startsOn: fc.constantFrom(...WEEKDAYS), day: fc.integer({ min: 1, max: 31 }), hour: fc.integer({ min: 0, max: 23 }) })

test('windows begin where the clocks of their zone first show the anchor, in any period', () => {
  fc.assert(
    fc.property(
      ...[fc.constantFrom(...CALENDAR_PERIODS), fc.constantFrom(...ZONES), anchor, fc.integer({ min: Date.UTC(1995, 0), max: Date.UTC(2040, 0) })],
      (period, timeZone, at, nowMs) => {
        const borders = bordersAround(period, timeZone, nowMs, at)
        expect(borders).toHaveLength(7)
        expect(borders[2]).toBeLessThanOrEqual(nowMs)
        expect(borders[3]).toBeGreaterThan(nowMs)
        const shown = shownMs(timeZone)
        const windowAt = (ms: number) => firstDay(period, at, Math.floor((shown(ms) - at.hour * HOUR) / DAY))
        for (const border of borders) {
          // The first instant of its window: in the day before, the clocks showed no time of it.
          const window = windowAt(border)
          for (let before = border - MINUTE; before > border - 4 * HOUR; before -= 15 * MINUTE)
            expect(windowAt(before), new Date(border).toISOString()).toBeLessThan(window)
          expect(shown(border) - at.hour * HOUR).toBeLessThan((window + 1) * DAY)
        }
        for (let n = 1; n < 7; n++)
          expect(windowAt((borders[n] as number) - 26 * HOUR)).toBeLessThanOrEqual(windowAt(borders[n - 1] as number) + (period === 'day' ? 1 : 0))
      },
    ),
    { numRuns: 400 },
  )
})

const begins = (period: CalendarPeriod, timeZone: string, at: Anchor, now: string) =>
  new Date(bordersAround(period, timeZone, Date.parse(now), at)[2] as number).toISOString()

test.each<[CalendarPeriod, string, Anchor, string, string]>([
  ['week', 'UTC', { startsOn: 'sunday' }, '2026-11-28T12:00:00Z', '2026-11-22T00:00:00.000Z'],
  ['day', 'UTC', { hour: 6 }, '2026-11-28T05:59:59Z', '2026-11-27T06:00:00.000Z'],
  ['day', 'UTC', { hour: 6 }, '2026-11-28T06:00:00Z', '2026-11-28T06:00:00.000Z'],
  ['month', 'UTC', { day: 15 }, '2026-11-14T23:00:00Z', '2026-10-15T00:00:00.000Z'],
  ['month', 'UTC', { day: 31 }, '2026-03-01T00:00:00Z', '2026-02-28T00:00:00.000Z'],
  ['quarter', 'UTC', {}, '2026-11-28T00:00:00Z', '2026-10-01T00:00:00.000Z'],
  ['quarter', 'UTC', { day: 31 }, '2026-04-30T12:00:00Z', '2026-04-30T00:00:00.000Z'],
  ['year', 'Europe/Berlin', { day: 15, hour: 6 }, '2026-11-28T00:00:00Z', '2026-01-15T05:00:00.000Z'],
  // 02:00 is skipped on this day, and the clocks show 03:00 at 01:00 UTC.
  ['day', 'Europe/Berlin', { hour: 2 }, '2026-03-29T12:00:00Z', '2026-03-29T01:00:00.000Z'],
  // 02:00 is shown twice on this day; the first one counts.
  ['day', 'Europe/Berlin', { hour: 2 }, '2026-10-25T12:00:00Z', '2026-10-25T00:00:00.000Z'],
  ['day', 'Europe/Berlin', { hour: 3 }, '2026-10-25T12:00:00Z', '2026-10-25T02:00:00.000Z'],
])('a %s in %s with %j begins at %s', (period, timeZone, at, now, expected) => {
  expect(begins(period, timeZone, at, now)).toBe(expected)
})

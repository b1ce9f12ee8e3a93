import fc from 'fast-check'
import { expect, test } from 'vitest'
import { bordersAround, type CalendarPeriod, isTimeZone } from '../../src/limits/calendar.js'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

/** The day that a time zone's clocks show, in days since the epoch: read another way than by the calendar under test. */
function shownDay(timeZone: string): (atMs: number) => number {
  const format = new Intl.DateTimeFormat('en-US', { timeZone, year: 'numeric', month: 'numeric', day: 'numeric' })
  return (atMs) => {
    const [month, day, year] = format.format(atMs).split('/').map(Number) as [number, number, number]
    return Date.UTC(year, month - 1, day) / DAY
  }
}

function shownWindow(period: CalendarPeriod, timeZone: string): (atMs: number) => number {
  const dayAt = shownDay(timeZone)
  if (period === 'day') return dayAt
  if (period === 'week') return (atMs) => Math.floor((dayAt(atMs) + 3) / 7)
  return (atMs) => {
    const date = new Date(dayAt(atMs) * DAY)
    return date.getUTCFullYear() * 12 + date.getUTCMonth()
  }
}

/** The instants between two times, to the step, at which the clocks show a window for the first time. */
function scan(period: CalendarPeriod, timeZone: string, fromMs: number, toMs: number, stepMs: number): number[] {
  const windowAt = shownWindow(period, timeZone)
  const begins: number[] = []
  let latest = windowAt(fromMs)
  for (let at = fromMs; at <= toMs; at += stepMs) {
    const window = windowAt(at)
    if (window > latest) {
      latest = window
      begins.push(at)
    }
  }
  return begins
}

const ZONES = [
  'UTC',
  'Europe/Berlin',
  'America/New_York',
  'America/Santiago',
  'America/Havana',
  'America/Sao_Paulo',
  'America/St_Johns',
  'America/Caracas',
  'America/Asuncion',
  'Asia/Beirut',
  'Asia/Gaza',
  'Asia/Amman',
  'Asia/Tehran',
  'Asia/Kolkata',
  'Asia/Kathmandu',
  'Asia/Pyongyang',
  'Africa/Cairo',
  'Africa/Casablanca',
  'Atlantic/Azores',
  'Australia/Lord_Howe',
  'Australia/Eucla',
  'Pacific/Apia',
  'Pacific/Chatham',
  'Pacific/Kiritimati',
  'Antarctica/Troll',
]

function checkAround(period: CalendarPeriod, timeZone: string, nowMs: number, stepMs: number): void {
  const borders = bordersAround(period, timeZone, nowMs)
  expect(borders).toHaveLength(7)
  expect(borders[2]).toBeLessThanOrEqual(nowMs)
  expect(borders[3]).toBeGreaterThan(nowMs)
  // The scan begins two days earlier: it has to know which windows the clocks showed before they went back.
  const from = Math.floor(((borders[0] as number) - 2 * DAY) / stepMs) * stepMs
  const to = (borders[6] as number) + HOUR
  expect(borders.map(inUtc)).toEqual(
    scan(period, timeZone, from, to, stepMs)
      .filter((at) => at >= (borders[0] as number))
      .map(inUtc),
  )
}

const inUtc = (ms: number) => new Date(ms).toISOString()
const zone = fc.constantFrom(...ZONES)
const instant = (fromYear: number, toYear: number) => fc.integer({ min: Date.UTC(fromYear, 0), max: Date.UTC(toYear, 0) })

test('days begin where a scan minute by minute sees the date change, in any zone and year', () => {
  fc.assert(
    fc.property(zone, instant(1975, 2045), (timeZone, nowMs) => checkAround('day', timeZone, nowMs, MINUTE)),
    { numRuns: 150 },
  )
})

test('weeks and months begin where a scan sees them change, in any zone and year', () => {
  fc.assert(
    fc.property(fc.constantFrom<CalendarPeriod[]>('week', 'month'), zone, instant(1990, 2045), (period, timeZone, nowMs) =>
      checkAround(period, timeZone, nowMs, 15 * MINUTE),
    ),
    { numRuns: 60 },
  )
})

test.each(ZONES)('every day of two years in %s begins where a scan sees the date change', (timeZone) => {
  for (const year of [2011, 2024]) {
    const from = Date.UTC(year, 0, 1)
    // Offsets are multiples of 15 minutes in these years.
    const begins = scan('day', timeZone, from - 2 * DAY, from + 366 * DAY, 15 * MINUTE)
    expect(begins.length).toBeGreaterThan(365)
    expect(begins.map((at) => inUtc(bordersAround('day', timeZone, at)[2] as number))).toEqual(begins.map(inUtc))
    expect(begins.map((at) => inUtc(bordersAround('day', timeZone, at - 1)[3] as number))).toEqual(begins.map(inUtc))
  }
})

/** The window that contains an instant: its begin, and its length in hours. */
function windowAt(period: CalendarPeriod, timeZone: string, at: string): [begin: string, hours: number] {
  const borders = bordersAround(period, timeZone, Date.parse(at))
  const [begin = 0, end = 0] = borders.slice(2, 4)
  return [inUtc(begin).replace(':00.000Z', 'Z'), (end - begin) / HOUR]
}

test.each([
  ['a plain day', 'UTC', '2024-05-05T12:00Z', '2024-05-05T00:00Z', 24],
  ['the day that clocks go forward', 'Europe/Berlin', '2024-03-31T12:00Z', '2024-03-30T23:00Z', 23],
  ['the day that clocks go back', 'Europe/Berlin', '2024-10-27T12:00Z', '2024-10-26T22:00Z', 25],
  ['the day that clocks go forward', 'America/New_York', '2024-03-10T12:00Z', '2024-03-10T05:00Z', 23],
  ['the day that clocks go back', 'America/New_York', '2024-11-03T12:00Z', '2024-11-03T04:00Z', 25],
  ['a day without midnight', 'America/Santiago', '2023-09-03T12:00Z', '2023-09-03T04:00Z', 23],
  ['a day whose last hour comes twice', 'America/Santiago', '2024-04-06T12:00Z', '2024-04-06T03:00Z', 25],
  ['a day without midnight', 'Asia/Beirut', '2024-03-31T12:00Z', '2024-03-30T22:00Z', 23],
  ['a day whose last hour comes twice', 'Asia/Beirut', '2024-10-26T12:00Z', '2024-10-25T21:00Z', 25],
  ['a day without midnight', 'Africa/Cairo', '2024-04-26T12:00Z', '2024-04-25T22:00Z', 23],
  ['a day whose first hour comes twice', 'America/Havana', '2024-11-03T12:00Z', '2024-11-03T04:00Z', 25],
  ['a day that clocks leave after its first minute', 'America/St_Johns', '2006-10-29T12:00Z', '2006-10-29T02:30Z', 25],
  ['a day with half an hour less', 'Australia/Lord_Howe', '2024-10-06T00:00Z', '2024-10-05T13:30Z', 23.5],
  ['a day with half an hour more', 'Australia/Lord_Howe', '2024-04-07T00:00Z', '2024-04-06T13:00Z', 24.5],
  ['a plain day', 'Asia/Kathmandu', '2024-05-05T12:00Z', '2024-05-04T18:15Z', 24],
  ['a plain day', 'Pacific/Kiritimati', '2024-05-05T12:00Z', '2024-05-05T10:00Z', 24],
  ['the day before the one that was skipped', 'Pacific/Apia', '2011-12-30T09:59Z', '2011-12-29T10:00Z', 24],
  ['the day after the one that was skipped', 'Pacific/Apia', '2011-12-30T10:00Z', '2011-12-30T10:00Z', 24],
])('%s in %s, at %s, began at %s and has %d hours', (_, timeZone, at, begin, hours) => {
  expect(windowAt('day', timeZone, at)).toEqual([begin, hours])
})

test.each([
  ['week', 'UTC', '2024-05-05T23:59Z', '2024-04-29T00:00Z', 168],
  ['week', 'UTC', '2024-05-06T00:00Z', '2024-05-06T00:00Z', 168],
  ['week', 'UTC', '1969-12-31T00:00Z', '1969-12-29T00:00Z', 168],
  ['week', 'Europe/Berlin', '2024-03-27T00:00Z', '2024-03-24T23:00Z', 167],
  ['week', 'Europe/Berlin', '2024-10-27T22:59Z', '2024-10-20T22:00Z', 169],
  ['week', 'Pacific/Apia', '2011-12-28T00:00Z', '2011-12-26T10:00Z', 144],
  ['month', 'UTC', '2024-02-29T23:59Z', '2024-02-01T00:00Z', 29 * 24],
  ['month', 'UTC', '2023-12-31T23:59Z', '2023-12-01T00:00Z', 31 * 24],
  ['month', 'Europe/Berlin', '2024-03-15T00:00Z', '2024-02-29T23:00Z', 31 * 24 - 1],
  ['month', 'Europe/Berlin', '2024-10-15T00:00Z', '2024-09-30T22:00Z', 31 * 24 + 1],
  ['month', 'Asia/Beirut', '2024-03-31T22:00Z', '2024-03-31T21:00Z', 30 * 24],
  ['month', 'Asia/Kolkata', '2024-05-31T18:29Z', '2024-04-30T18:30Z', 31 * 24],
  ['month', 'Pacific/Apia', '2011-12-15T00:00Z', '2011-12-01T10:00Z', 30 * 24],
] as const)('the %s in %s at %s began at %s and has %d hours', (period, timeZone, at, begin, hours) => {
  expect(windowAt(period, timeZone, at)).toEqual([begin, hours])
})

test('a minute of the old day that comes after the first of the new one belongs to the new one', () => {
  // At 00:01 on 29 October 2006 the clocks of St. John's went back to 23:01.
  const begin = Date.parse('2006-10-29T02:30Z')
  for (const at of [begin, begin + 30_000, begin + MINUTE, begin + 30 * MINUTE, begin + HOUR, begin + 24 * HOUR]) {
    expect(bordersAround('day', 'America/St_Johns', at)[2]).toBe(begin)
  }
  expect(bordersAround('day', 'America/St_Johns', begin - 1)[3]).toBe(begin)
})

test('days that were shown twice or not at all, and offsets with seconds, keep the borders ascending', () => {
  const instants = [
    ['Pacific/Kwajalein', '1969-09-30T12:00Z'],
    ['Pacific/Kwajalein', '1993-08-20T12:00Z'],
    ['Asia/Manila', '1844-12-31T00:00Z'],
    ['America/Juneau', '1867-10-18T00:00Z'],
    ['Europe/Amsterdam', '1936-06-01T00:00Z'],
    ['Africa/Monrovia', '1972-01-07T00:00Z'],
    ['UTC', '0001-01-01T00:00Z'],
    ['Europe/Berlin', '+020000-06-01T00:00Z'],
  ] as const
  for (const [timeZone, day] of instants) {
    for (const period of ['day', 'week', 'month'] as const) {
      for (let hour = -72; hour <= 72; hour += 3) {
        const nowMs = Date.parse(day) + hour * HOUR
        const borders = bordersAround(period, timeZone, nowMs)
        expect(borders).toHaveLength(7)
        expect([...borders].sort((a, b) => a - b)).toEqual(borders)
        expect(new Set(borders).size).toBe(7)
        expect(nowMs >= (borders[2] as number) && nowMs < (borders[3] as number), `${timeZone} ${inUtc(nowMs)}`).toBe(true)
      }
    }
  }
})

test.each(['UTC', 'Europe/Berlin', 'america/new_york', 'Asia/Calcutta', 'Etc/GMT+5', 'EST5EDT', 'Pacific/Apia'])('%s is a time zone', (name) => {
  expect(isTimeZone(name)).toBe(true)
})

test.each([
  '',
  ' ',
  'Berlin',
  'Europe/Berlin ',
  'Europe',
  'Mars/Olympus',
  '+05:30',
  '-03',
  '+0530',
  'UTC+1',
  'local',
  'constructor',
  '__proto__',
  'Europe/Berlin\n',
])('%j is no time zone', (name) => {
  expect(isTimeZone(name)).toBe(false)
})

test('an unknown time zone has no borders', () => {
  expect(() => bordersAround('day', 'Mars/Olympus', 0)).toThrow(RangeError)
})

import { DAY, HOUR, SECOND } from '../model/time.js'

/** Windows of a calendar: their lengths differ, between months and where a time zone changes its offset. */
export const CALENDAR_PERIODS = ['day', 'week', 'month', 'quarter', 'year'] as const
export type CalendarPeriod = (typeof CALENDAR_PERIODS)[number]

export const WEEKDAYS = ['monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday', 'sunday'] as const
export type Weekday = (typeof WEEKDAYS)[number]

/** Where windows of a calendar begin. */
export interface Anchor {
  /** Of a week; default monday. */
  readonly startsOn?: Weekday | undefined
  /** Of a month, or of the first month of a quarter or year, 1 to 31; where that month is shorter, its last day. Default 1. */
  readonly day?: number | undefined
  /** Of the first day of the window, 0 to 23; default 0. */
  readonly hour?: number | undefined
}

/** `bordersAround` returns the borders of so many windows before and after the current one. */
const BEFORE = 2
const AFTER = 4
/** No time zone has ever been further from UTC (Manila and Juneau came close, before they moved across the date line). */
const LARGEST_OFFSET_MS = 16 * HOUR
/** No time zone changes its offset twice within this time, so sampling at this distance finds each change. */
const SAMPLE_MS = 4 * HOUR
/** Day 0, 1 January 1970, was a Thursday. */
const FIRST_MONDAY = 4

const formats = new Map<string, Intl.DateTimeFormat>()

function formatOf(timeZone: string): Intl.DateTimeFormat {
  let format = formats.get(timeZone)
  if (format === undefined) {
    format = new Intl.DateTimeFormat('en-US', { timeZone, timeZoneName: 'longOffset' })
    formats.set(timeZone, format)
  }
  return format
}

/** Whether a name is a time zone: an IANA name such as Europe/Berlin, or UTC, in any case. */
export function isTimeZone(name: string): boolean {
  // Offsets such as +02:00 are accepted by some versions of Node only.
  if (!/^[A-Za-z]/.test(name)) return false
  try {
    formatOf(name)
    return true
  } catch {
    return false
  }
}

/** The offset of a time zone from UTC at an instant, in ms; positive east of it. */
function offsetAt(timeZone: string, atMs: number): number {
  const [, sign, hours, minutes, seconds = 0] = /GMT(?:([+-])(\d\d):(\d\d)(?::(\d\d))?)?$/.exec(formatOf(timeZone).format(atMs)) ?? []
  if (sign === undefined) return 0
  const size = ((Number(hours) * 60 + Number(minutes)) * 60 + Number(seconds)) * SECOND
  return sign === '-' ? -size : size
}

/** Finds by bisection, to the second, when the offset of a time zone changes between two instants whose offsets differ. */
function changeBetween(timeZone: string, fromMs: number, toMs: number): number {
  const before = offsetAt(timeZone, fromMs)
  let low = fromMs
  let high = toMs
  while (high - low > SECOND) {
    const middle = low + Math.floor((high - low) / 2 / SECOND) * SECOND
    if (offsetAt(timeZone, middle) === before) low = middle
    else high = middle
  }
  return high
}

/** The first instant at which a time zone's clocks show a time (in ms since they showed the begin of 1970), or a later one where they skip it. */
function firstShown(timeZone: string, shownMs: number): number {
  let from = shownMs - LARGEST_OFFSET_MS
  let offset = offsetAt(timeZone, from)
  for (;;) {
    const next = from + SAMPLE_MS
    const nextOffset = offsetAt(timeZone, next)
    const until = nextOffset === offset ? next : changeBetween(timeZone, from, next)
    // Where the clocks jump over that time, the instant of the jump.
    const begin = Math.max(from, shownMs - offset)
    if (begin < until) return begin
    from = until
    offset = nextOffset === offset ? offset : offsetAt(timeZone, until)
  }
}

/** The number of the window that contains a day, and the first day of a window. */
interface Windows {
  of(day: number): number
  firstDay(window: number): number
}

function windowsOfDays(days: number, first: number): Windows {
  return { of: (day) => Math.floor((day - first) / days), firstDay: (window) => window * days + first }
}

function windowsOfMonths(months: number, dayOfMonth: number): Windows {
  // Not Date.UTC: it reads the years 0 to 99 as 1900 to 1999.
  const dayIn = (month: number, day: number) => new Date(0).setUTCFullYear(Math.floor(month / 12), ((month % 12) + 12) % 12, day) / DAY
  const firstDay = (window: number) => Math.min(dayIn(window * months, dayOfMonth), dayIn(window * months + 1, 0))
  return {
    of(day) {
      const date = new Date(day * DAY)
      const window = Math.floor((date.getUTCFullYear() * 12 + date.getUTCMonth()) / months)
      return firstDay(window) > day ? window - 1 : window
    },
    firstDay,
  }
}

function windowsOf(period: CalendarPeriod, { startsOn = 'monday', day = 1 }: Anchor): Windows {
  switch (period) {
    case 'day':
      return windowsOfDays(1, 0)
    case 'week':
      return windowsOfDays(7, FIRST_MONDAY + WEEKDAYS.indexOf(startsOn))
    case 'month':
      return windowsOfMonths(1, day)
    case 'quarter':
      return windowsOfMonths(3, day)
    case 'year':
      return windowsOfMonths(12, day)
    default:
      return period satisfies never
  }
}

/**
 * The instants (UTC, in ms, ascending) at which calendar windows of a time zone begin: of the 2 windows before the one that contains
 * `nowMs`, of that window, and of the next 4. So there are 7, and `borders[2] <= nowMs < borders[3]`.
 *
 * A window begins at the first instant at which the zone's clocks show its first day, or the hour of its anchor on that day. Where the clocks jump over
 * that time it is the instant of the jump. Where they go back over it, it is the first of the two times, and the repeated hour belongs to the new window.
 * A day that a zone skips has no window.
 * @throws RangeError where `timeZone` is no time zone, see `isTimeZone`
 */
export function bordersAround(period: CalendarPeriod, timeZone: string, nowMs: number, anchor: Anchor = {}): readonly number[] {
  const windows = windowsOf(period, anchor)
  const hourMs = (anchor.hour ?? 0) * HOUR
  const shown = windows.of(Math.floor((nowMs + offsetAt(timeZone, nowMs) - hourMs) / DAY))
  const borders: number[] = []
  // One more on each side for a skipped day, and one more after for clocks that went back into the window before.
  for (let window = shown - BEFORE - 1; window <= shown + AFTER + 2; window++) {
    const border = firstShown(timeZone, windows.firstDay(window) * DAY + hourMs)
    if (border !== borders.at(-1)) borders.push(border)
  }
  const current = borders.findLastIndex((border) => border <= nowMs)
  return borders.slice(current - BEFORE, current + AFTER + 1)
}

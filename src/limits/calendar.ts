import { DAY, HOUR, SECOND } from '../model/time.js'

/** The windows that a calendar has: they differ in length, by months and by the clocks of a time zone. */
export type CalendarPeriod = 'day' | 'week' | 'month'

/** Windows before and after the current one whose borders are told. */
const BEFORE = 2
const AFTER = 4
/** No zone has ever been further from UTC (Manila and Juneau were nearly so, until their date changed). */
const LARGEST_OFFSET_MS = 16 * HOUR
/** No zone changes its offset twice within this, so its changes are found by looking this often. */
const LOOK_MS = 4 * HOUR
/** Weeks begin on Monday; the epoch was a Thursday. */
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

/** Whether this is a time zone: an IANA name such as Europe/Berlin, or UTC. Upper and lower case are the same. */
export function isTimeZone(name: string): boolean {
  // Plain offsets are known to some versions of Node only.
  if (!/^[A-Za-z]/.test(name)) return false
  try {
    formatOf(name)
    return true
  } catch {
    return false
  }
}

/** What a zone's clocks are ahead of UTC at an instant, in ms. */
function offsetAt(timeZone: string, atMs: number): number {
  const [, sign, hours, minutes, seconds = 0] = /GMT(?:([+-])(\d\d):(\d\d)(?::(\d\d))?)?$/.exec(formatOf(timeZone).format(atMs)) ?? []
  if (sign === undefined) return 0
  const size = ((Number(hours) * 60 + Number(minutes)) * 60 + Number(seconds)) * SECOND
  return sign === '-' ? -size : size
}

/** The first instant, to the second, after `fromMs` with another offset than there; it is known to be at `toMs` at the latest. */
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

/** The first instant at which a zone's clocks show this day (in days since 1 January 1970) or, where they skip it, a later one. */
function beginOfDay(timeZone: string, day: number): number {
  const midnight = day * DAY
  let from = midnight - LARGEST_OFFSET_MS
  let offset = offsetAt(timeZone, from)
  for (;;) {
    const next = from + LOOK_MS
    const nextOffset = offsetAt(timeZone, next)
    const until = nextOffset === offset ? next : changeBetween(timeZone, from, next)
    // Midnight, or where the clocks jump over it, when they do.
    const begin = Math.max(from, midnight - offset)
    if (begin < until) return begin
    from = until
    offset = nextOffset === offset ? offset : offsetAt(timeZone, until)
  }
}

/** The number of the window that holds a day. */
function windowOf(period: CalendarPeriod, day: number): number {
  if (period === 'day') return day
  if (period === 'week') return Math.floor((day - FIRST_MONDAY) / 7)
  const date = new Date(day * DAY)
  return date.getUTCFullYear() * 12 + date.getUTCMonth()
}

/** The first day of a window. */
function firstDay(period: CalendarPeriod, window: number): number {
  if (period === 'day') return window
  if (period === 'week') return window * 7 + FIRST_MONDAY
  // Not Date.UTC: it takes the years 0 to 99 for those of the last century.
  return new Date(0).setUTCFullYear(Math.floor(window / 12), ((window % 12) + 12) % 12, 1) / DAY
}

/**
 * The instants (UTC, in ms, ascending) at which calendar windows of a time zone begin: of
 * the 2 before the one that `nowMs` is in, of that one, and of the next 4. So there are 7,
 * and `borders[2] <= nowMs < borders[3]`.
 *
 * A window begins at the first instant at which the zone's clocks show its first day: where
 * they jump over midnight, when they do; where they go back over it, at the first of the
 * two, and what they show again belongs to the new window. A day that a zone skips has no
 * window.
 * @throws RangeError where the zone is not one, see `isTimeZone`
 */
export function bordersAround(period: CalendarPeriod, timeZone: string, nowMs: number): readonly number[] {
  const shown = windowOf(period, Math.floor((nowMs + offsetAt(timeZone, nowMs)) / DAY))
  const borders: number[] = []
  // One more on each side for a day that is skipped, and one for clocks that went back into the window before.
  for (let window = shown - BEFORE - 1; window <= shown + AFTER + 2; window++) {
    const border = beginOfDay(timeZone, firstDay(period, window))
    if (border !== borders.at(-1)) borders.push(border)
  }
  const current = borders.findLastIndex((border) => border <= nowMs)
  return borders.slice(current - BEFORE, current + AFTER + 1)
}

import { type Algorithm, counted, type MeterLimit, slackOfSum, waitUp } from '../algorithm.js'

/** Calendar windows before the known borders are counted at this multiple of their usual length (a day of 25 hours, a month of 31 days), so that none is counted twice. */
const LONGEST = 25 / 24

/** The numbering of a limit's windows around a time: `of` gives the window of a time, `begin` the start of a window. */
function windows(limit: MeterLimit, nowMs: number): { of(atMs: number): number; begin(window: number): number } {
  const { windowMs, offsetMs } = limit
  const borders = limit.borders?.(nowMs)
  if (borders === undefined) return { of: (atMs) => Math.floor((atMs - offsetMs) / windowMs), begin: (window) => window * windowMs + offsetMs }
  const first = borders[0] as number
  const last = borders.at(-1) as number
  return {
    of(atMs) {
      if (atMs < first) return Math.floor((atMs - first) / (windowMs * LONGEST))
      if (atMs >= last) return borders.length - 1 + Math.floor((atMs - last) / windowMs)
      return borders.findLastIndex((border) => border <= atMs)
    },
    begin(window) {
      const nearest = Math.max(0, Math.min(borders.length - 1, window))
      return (borders[nearest] as number) + (window - nearest) * windowMs
    },
  }
}

/**
 * Fixed window: a counter per aligned window, of a fixed length or of a calendar. Around a border up to twice the limit can pass, the known weakness
 * of this algorithm; a token bucket or a sliding window has none. What was overrun is debt, carried into the next windows.
 */
export const fixedWindow: Algorithm = {
  ...counted,
  // The reset cannot be computed from `used`: above the limit it is debt, or the limit was lowered.
  resetInReply: true,
  slack: slackOfSum,
  roll(state, limit, fromMs, nowMs) {
    const { of } = windows(limit, nowMs)
    const passed = of(nowMs) - of(fromMs)
    if (passed <= 0) return
    const carried = Math.max(0, state.debt - limit.capacity * (passed - 1))
    state.used = Math.min(carried, limit.capacity)
    state.debt = carried - state.used
  },
  waitMs(state, limit, nowMs, cost, ahead) {
    // `used` exceeds the capacity only where the limit was lowered, and only until the window ends.
    const over = Math.min(state.used, limit.capacity) + state.debt + cost + ahead - limit.capacity
    if (over <= limit.slack) return 0
    const { of, begin } = windows(limit, nowMs)
    return waitUp(begin(of(nowMs) + Math.max(1, Math.ceil(over / limit.capacity))) - nowMs)
  },
  refund(state, limit, amount, atMs, nowMs) {
    const { of } = windows(limit, nowMs)
    return of(atMs) === of(nowMs) && counted.refund(state, limit, amount)
  },
  resetMs(state, limit, nowMs) {
    if (state.used + state.debt === 0) return 0
    const { of, begin } = windows(limit, nowMs)
    return begin(of(nowMs) + 1 + (limit.capacity > 0 ? Math.ceil(state.debt / limit.capacity) : 0)) - nowMs
  },
}

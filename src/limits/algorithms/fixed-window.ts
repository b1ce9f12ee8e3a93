import { type Algorithm, counted, type MeterLimit, slackOfSum, waitUp } from '../algorithm.js'

/** What windows of long ago are taken to be longer than usual: a day of 25 hours, a month of 31 days. */
const LONGEST = 25 / 24

/** The windows of a limit as they are numbered around a time. */
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
 * Fixed window: so much per aligned window, also of a calendar. Around a border twice the
 * limit may pass, which is the known price of this algorithm; take a token bucket or a
 * sliding window where that matters.
 */
export const fixedWindow: Algorithm = {
  ...counted,
  // Above the limit may be debt, or a limit that was lowered.
  tellsReset: true,
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
    // Above the capacity only after it was lowered; that does not outlive the window.
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

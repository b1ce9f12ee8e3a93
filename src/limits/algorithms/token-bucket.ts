import { type Algorithm, counted, type MeterLimit, type MeterState, slackOfRate, waitUp } from '../algorithm.js'

/**
 * Leaky bucket, as a meter (Turner 1986; the virtual scheduling of ATM's generic cell rate
 * algorithm with no tolerance): even spacing, no burst. The next call waits until what the
 * one before cost has flowed out; one that costs n keeps the next away for n intervals.
 */
export const leakyBucket: Algorithm = {
  ...counted,
  slack: slackOfRate,
  roll: leak,
  waitMs(state, limit, _nowMs, _cost, ahead) {
    const before = missing(state, limit) + state.debt + ahead
    return before <= limit.slack ? 0 : waitUp(before / limit.rate)
  },
  resetMs: timeToLeak,
  remaining: (used, limit) => (used <= limit.slack ? limit.capacity : 0),
}

/** What has come back since: debt goes first. What a bucket was missing that was larger then is no more than it can miss now. */
export function leak(state: MeterState, limit: MeterLimit, fromMs: number, nowMs: number): void {
  let back = Math.max(0, nowMs - fromMs) * limit.rate
  if (state.debt > 0) {
    const left = Math.max(0, state.debt - back)
    back -= state.debt - left
    state.debt = left
  }
  state.used = Math.max(0, missing(state, limit) - back)
}

/** What is missing from a bucket, which may have been larger when it was taken. */
export function missing({ used }: MeterState, { capacity, slack }: MeterLimit): number {
  return Math.min(used, capacity + slack)
}

/** Milliseconds until all has come back. */
export function timeToLeak(state: MeterState, limit: MeterLimit): number {
  return state.used + state.debt === 0 ? 0 : (state.used + state.debt) / limit.rate
}

/**
 * Token bucket (Turner, "New directions in communications", 1986): refills at a steady
 * rate up to its burst. Kept as what is missing from a full bucket.
 */
export const tokenBucket: Algorithm = {
  ...counted,
  slack: slackOfRate,
  roll: leak,
  waitMs(state, limit, _nowMs, cost, ahead) {
    const over = missing(state, limit) + state.debt + cost + ahead - limit.capacity
    return over <= limit.slack ? 0 : waitUp(over / limit.rate)
  },
  resetMs: timeToLeak,
}

import { type Algorithm, counted, type MeterLimit, type MeterState, slackOfRate, slowerRate, waitUp } from '../algorithm.js'
import { giveBack } from '../lows.js'

/**
 * Leaky bucket as a meter (Turner, "New directions in communications", 1986; equal to the virtual scheduling form of ATM's generic cell rate
 * algorithm, ITU-T I.371, with tolerance 0): even spacing, no burst. A call starts once the cost of the calls before it has leaked out, so a call of
 * cost n delays the next one by n intervals.
 */
export const leakyBucket: Algorithm = {
  ...counted,
  leaks: true,
  slack: slackOfRate,
  roll: leak,
  refund,
  waitMs(state, limit, _nowMs, _cost, ahead) {
    const before = missing(state, limit) + state.debt + ahead
    return before <= limit.slack ? 0 : waitUp(before / limit.rate)
  },
  resetMs: timeToLeak,
  remaining: (used, limit) => (used <= limit.slack ? limit.capacity : 0),
}

/** Refills a bucket from `fromMs` to `nowMs`: first the debt is reduced, then `used`. A bucket that was lowered lacks at most its new capacity. */
function leak(state: MeterState, limit: MeterLimit, fromMs: number, nowMs: number): void {
  let back = Math.max(0, nowMs - fromMs) * slowerRate(state.rate, limit.rate)
  if (state.debt > 0) {
    const left = Math.max(0, state.debt - back)
    back -= state.debt - left
    state.debt = left
  }
  state.used = Math.max(0, missing(state, limit) - back)
}

/** Refunds as much of a charge as the clock has not given back since. */
function refund(state: MeterState, limit: MeterLimit, amount: number, atMs: number, nowMs: number): boolean {
  const back = giveBack(state, limit, amount, atMs, nowMs)
  return back > 0 && counted.refund(state, limit, back)
}

/** The amount that a bucket lacks, cut to its capacity: it may have been larger when it was charged. */
function missing({ used }: MeterState, { capacity, slack }: MeterLimit): number {
  return Math.min(used, capacity + slack)
}

/** Milliseconds until the bucket is full and without debt. */
function timeToLeak(state: MeterState, limit: MeterLimit): number {
  return state.used + state.debt === 0 ? 0 : (state.used + state.debt) / limit.rate
}

/** Token bucket (Turner, "New directions in communications", 1986): it refills at a constant rate up to its burst. `used` is the amount that it lacks. */
export const tokenBucket: Algorithm = {
  ...counted,
  leaks: true,
  slack: slackOfRate,
  roll: leak,
  refund,
  waitMs(state, limit, _nowMs, cost, ahead) {
    const over = missing(state, limit) + state.debt + cost + ahead - limit.capacity
    return over <= limit.slack ? 0 : waitUp(over / limit.rate)
  },
  resetMs: timeToLeak,
}

import { type Algorithm, counted, slackOfRate, waitUp } from './algorithm.js'
import { leak, missing, timeToLeak } from './token-bucket.js'

/**
 * Leaky bucket, as a meter (Turner 1986; the virtual scheduling of ATM's generic cell rate
 * algorithm with no tolerance): even spacing, no burst. The next call waits until what the
 * one before cost has flowed out; one that costs n keeps the next away for n intervals.
 */
export const leakyBucket: Algorithm = {
  ...counted,
  code: 5,
  slack: slackOfRate,
  roll: leak,
  waitMs(state, limit, _nowMs, _cost, ahead) {
    const before = missing(state, limit) + state.debt + ahead
    return before <= limit.slack ? 0 : waitUp(before / limit.a)
  },
  resetMs: timeToLeak,
  remaining: (used, limit) => (used <= limit.slack ? limit.capacity : 0),
}

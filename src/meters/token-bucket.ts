import { type Algorithm, waitUp } from './algorithm.js'

/**
 * Token bucket (Turner, "New directions in communications", 1986): refills at a steady
 * rate up to its burst. Kept as what is missing from a full bucket.
 */
export const tokenBucket: Algorithm = {
  code: 1,
  roll(state, limit, fromMs, nowMs) {
    const back = Math.max(0, nowMs - fromMs) * limit.a
    const debt = Math.max(0, state.debt - back)
    state.used = Math.min(limit.capacity, Math.max(0, state.used - (back - (state.debt - debt))))
    state.debt = debt
    return state
  },
  waitMs(state, limit, _nowMs, need) {
    const over = state.used + state.debt + need - limit.capacity
    return over <= 0 ? 0 : waitUp(over / limit.a)
  },
  refundable: () => true,
  resetMs: (state, limit) => (state.used + state.debt === 0 ? 0 : (state.used + state.debt) / limit.a),
}

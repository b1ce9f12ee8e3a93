import { type Algorithm, waitUp } from './algorithm.js'

/**
 * Concurrency: at most so many calls at once. Slots are leases; when one comes free
 * before its lease ends nobody can know, so the wait is the longest it can take.
 */
export const concurrency: Algorithm = {
  code: 3,
  roll: (state) => state,
  waitMs: (state, limit, _nowMs, need) => (state.used + need <= limit.capacity ? 0 : waitUp(limit.a)),
  refundable: () => true,
  resetMs: (state, limit) => (state.used === 0 ? 0 : limit.a),
}

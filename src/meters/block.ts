import { type Algorithm, waitUp } from './algorithm.js'

/** Block: nothing passes before a given time (`used`, in ms), as an agent asked for with a 429. */
export const block: Algorithm = {
  code: 4,
  roll(state, _limit, _fromMs, nowMs) {
    if (state.used <= nowMs) state.used = 0
    return state
  },
  waitMs: (state, _limit, nowMs) => (state.used > nowMs ? waitUp(state.used - nowMs) : 0),
  refundable: () => false,
  resetMs: (state, _limit, nowMs) => Math.max(0, state.used - nowMs),
}

import { type Algorithm, counted, waitUp } from './algorithm.js'

/** Block: nothing passes before a given time (`used`, in ms), as an agent asked for with a 429. */
export const block: Algorithm = {
  ...counted,
  code: 4,
  slack: () => 0,
  roll(state, _limit, _fromMs, nowMs) {
    if (state.used <= nowMs) state.used = 0
  },
  waitMs: (state, _limit, nowMs) => (state.used > nowMs ? waitUp(state.used - nowMs) : 0),
  charge() {},
  overrun() {},
  refund: () => false,
  resetMs: (state, _limit, nowMs) => Math.max(0, state.used - nowMs),
}

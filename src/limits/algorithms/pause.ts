import { type Algorithm, counted } from '../algorithm.js'

/** See `lua/lib/algorithms/pause.lua`. */
const PAUSE_WAIT_MS = 5000

/** Pause: nothing passes until it is taken away, and when that is nobody knows. */
export const pause: Algorithm = {
  ...counted,
  slack: () => 0,
  roll(state) {
    state.used = 0
  },
  waitMs: () => PAUSE_WAIT_MS,
  charge() {},
  overrun() {},
  refund: () => false,
  resetMs: () => 0,
}

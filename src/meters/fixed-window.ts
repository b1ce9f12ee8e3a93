import { type Algorithm, type MeterLimit, waitUp } from './algorithm.js'

function windowOf(limit: MeterLimit, atMs: number): number {
  return Math.floor((atMs - limit.b) / limit.a)
}

/**
 * Fixed window: so much per aligned window. Around a border twice the limit may pass,
 * which is the known price of this algorithm; take a token bucket where that matters.
 */
export const fixedWindow: Algorithm = {
  code: 2,
  roll(state, limit, fromMs, nowMs) {
    const passed = windowOf(limit, nowMs) - windowOf(limit, fromMs)
    if (passed > 0) {
      const carried = Math.max(0, state.debt - limit.capacity * (passed - 1))
      state.used = Math.min(carried, limit.capacity)
      state.debt = carried - state.used
    }
    return state
  },
  waitMs(state, limit, nowMs, need) {
    const over = Math.min(state.used, limit.capacity) + state.debt + need - limit.capacity
    if (over <= 0) return 0
    const border = (windowOf(limit, nowMs) + Math.ceil(over / limit.capacity)) * limit.a + limit.b
    return waitUp(border - nowMs)
  },
  refundable: (limit, atMs, nowMs) => windowOf(limit, atMs) === windowOf(limit, nowMs),
  resetMs(state, limit, nowMs) {
    if (state.used + state.debt === 0) return 0
    const windows = 1 + (limit.capacity > 0 ? Math.ceil(state.debt / limit.capacity) : 0)
    return (windowOf(limit, nowMs) + windows) * limit.a + limit.b - nowMs
  },
}

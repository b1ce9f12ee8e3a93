import { type Algorithm, counted, waitUp } from './algorithm.js'

/**
 * Concurrency: at most so many calls at once. Slots are leases; when one comes free
 * before its lease ends nobody can know, so the wait is the longest it can take.
 */
export const concurrency: Algorithm = {
  code: 3,
  keyed: true,
  tellsReset: false,
  slack: () => 0,
  roll(state, _limit, _fromMs, nowMs) {
    for (const [holder, endMs] of state.slots ?? []) if (endMs <= nowMs) state.slots?.delete(holder)
    state.used = state.slots?.size ?? 0
  },
  waitMs(state, limit, nowMs, cost, ahead) {
    if (state.used + cost + ahead <= limit.capacity) return 0
    const firstEndMs = Math.min(...(state.slots?.values() ?? []))
    return waitUp(Math.max(1, Number.isFinite(firstEndMs) ? firstEndMs - nowMs : limit.a))
  },
  charge(state, limit, _amount, nowMs, holder) {
    state.slots ??= new Map()
    state.slots.set(holder, nowMs + limit.a)
    state.used = state.slots.size
  },
  overrun() {},
  refund(state, _limit, _amount, _atMs, _nowMs, holder) {
    const held = state.slots?.delete(holder) ?? false
    state.used = state.slots?.size ?? 0
    return held
  },
  resetMs: (state, limit) => (state.used === 0 ? 0 : limit.a),
  remaining: counted.remaining,
}

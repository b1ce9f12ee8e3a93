import { type Algorithm, counted, waitUp } from '../algorithm.js'

/**
 * Concurrency: a bound on the calls that run at the same time. Each slot is a lease. A slot may be released before its lease ends, and when is
 * unknown; so the wait is until the first lease ends, the longest that it can take.
 */
export const concurrency: Algorithm = {
  keyed: true,
  resetInReply: false,
  leaks: false,
  slack: () => 0,
  roll(state, _limit, _fromMs, nowMs) {
    state.used = 0
    for (const endMs of state.slots?.values() ?? []) if (endMs > nowMs) state.used++
  },
  waitMs(state, limit, nowMs, cost, ahead) {
    if (state.used + cost + ahead <= limit.capacity) return 0
    let firstEndMs = Number.POSITIVE_INFINITY
    for (const endMs of state.slots?.values() ?? []) if (endMs > nowMs) firstEndMs = Math.min(firstEndMs, endMs)
    return waitUp(Math.max(1, Number.isFinite(firstEndMs) ? firstEndMs - nowMs : limit.leaseMs))
  },
  charge(state, limit, _amount, nowMs, holder) {
    state.slots ??= new Map()
    for (const [other, endMs] of state.slots) if (endMs <= nowMs) state.slots.delete(other)
    state.slots.set(holder, nowMs + limit.leaseMs)
    state.used = state.slots.size
  },
  overrun() {},
  refund(state, _limit, _amount, _atMs, nowMs, holder) {
    const endMs = state.slots?.get(holder)
    if (endMs === undefined) return false
    state.slots?.delete(holder)
    if (endMs > nowMs) state.used--
    return true
  },
  resetMs: (state, limit) => (state.used === 0 ? 0 : limit.leaseMs),
  remaining: counted.remaining,
}

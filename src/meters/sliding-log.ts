import { type Algorithm, counted, type MeterLimit, slackOfSum, waitUp } from './algorithm.js'

function add(history: number[], atMs: number, amount: number): void {
  let place = history.length - 2
  while (place >= 0 && (history[place] as number) > atMs) place -= 2
  if (place === history.length - 2) history.push(atMs, amount)
  else history.splice(place + 2, 0, atMs, amount)
}

/** Takes up to an amount from the entry at a place; returns what it took. */
function take(history: number[], place: number, amount: number): number {
  const there = history[place + 1] as number
  const taken = Math.min(amount, there)
  history[place + 1] = there - taken
  if (there - taken <= 0) history.splice(place, 2)
  return taken
}

/** Debt is dated a window after the present, each window's capacity after the one before. */
function dateDebt(limit: MeterLimit, history: number[], debt: number, nowMs: number): void {
  let amount = debt
  let atMs = nowMs
  const last = history.length - 2
  if (last >= 0 && (history[last] as number) > nowMs) {
    const fill = Math.min(amount, Math.max(0, limit.capacity - (history[last + 1] as number)))
    ;(history[last + 1] as number) += fill
    amount -= fill
    atMs = history[last] as number
  }
  const whole = Math.floor(amount / limit.capacity)
  if (whole > 0) {
    atMs += whole * limit.a
    add(history, atMs, whole * limit.capacity)
  }
  if (amount > whole * limit.capacity) add(history, atMs + limit.a, amount - whole * limit.capacity)
}

/** The entry charged at a time that holds at least an amount, or the last one of that time. */
function chargedAt(history: readonly number[], atMs: number, amount: number): number {
  let found = -1
  for (let place = history.length - 2; place >= 0 && (history[place] as number) >= atMs; place -= 2) {
    if (history[place] !== atMs) continue
    if ((history[place + 1] as number) >= amount) return place
    if (found < 0) found = place
  }
  return found
}

/**
 * Sliding log: exactly what was charged in the last window, each charge by itself. Its
 * memory grows with the calls of a window. The history is `time, amount, …`, ascending;
 * overrun beyond the limit is dated ahead.
 */
export const slidingLog: Algorithm = {
  code: 7,
  keyed: true,
  tellsReset: true,
  slack: slackOfSum,
  roll(state, limit, fromMs, nowMs) {
    const { history } = state
    if (history === null) return
    if (fromMs > nowMs) {
      for (let place = 0; place < history.length; place += 2) (history[place] as number) -= fromMs - nowMs
    }
    const endedMs = nowMs - limit.a
    let gone = 0
    while (gone < history.length && (history[gone] as number) <= endedMs) {
      state.used -= history[gone + 1] as number
      gone += 2
    }
    if (gone > 0) history.splice(0, gone)
    state.used = history.length > 0 ? Math.max(0, state.used) : 0
  },
  waitMs({ used, history }, limit, nowMs, cost, ahead) {
    let over = used + cost + ahead - limit.capacity
    if (over <= limit.slack) return 0
    const rounds = used > 0 ? Math.max(0, Math.ceil((over - limit.slack) / used) - 1) : 0
    over -= rounds * used
    for (let place = 0; history !== null && place < history.length; place += 2) {
      over -= history[place + 1] as number
      if (over <= limit.slack) return waitUp((history[place] as number) + (rounds + 1) * limit.a - nowMs)
    }
    return waitUp(limit.a * (1 + ahead / limit.capacity))
  },
  charge(state, _limit, amount, nowMs) {
    state.history ??= []
    add(state.history, nowMs, amount)
    state.used += amount
  },
  overrun(state, limit, amount, nowMs) {
    state.history ??= []
    const beyond = limit.capacity > 0 ? Math.max(0, Math.min(amount, state.used + amount - limit.capacity)) : 0
    if (amount > beyond) add(state.history, nowMs, amount - beyond)
    if (beyond > 0) dateDebt(limit, state.history, beyond, nowMs)
    state.used += amount
  },
  refund(state, limit, amount, atMs, nowMs) {
    const history = state.history ?? []
    let left = amount
    while (left > 0 && history.length > 0 && (history.at(-2) as number) > nowMs) left -= take(history, history.length - 2, left)
    const place = left > 0 && atMs > nowMs - limit.a ? chargedAt(history, atMs, left) : -1
    if (place >= 0) left -= take(history, place, left)
    state.used = history.length > 0 ? Math.max(0, state.used - (amount - left)) : 0
    return left < amount
  },
  resetMs: ({ history }, limit, nowMs) => (history === null || history.length === 0 ? 0 : (history.at(-2) as number) + limit.a - nowMs),
  remaining: counted.remaining,
}

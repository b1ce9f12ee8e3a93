import { type Algorithm, counted, type MeterLimit, type MeterState, slackOfSum, waitUp } from '../algorithm.js'
import { beyondCapacity, isEmpty, roomBeside, roundsAhead } from './sliding.js'

/** Into how many cells a window is cut. */
export const SLIDING_CELLS = 32
const CELLS = SLIDING_CELLS
/** A cell counts until this many later. */
const ROUND = CELLS + 1

function cellOf(limit: MeterLimit, atMs: number): number {
  return Math.floor((atMs * CELLS) / limit.windowMs)
}

/** When what was charged in a cell counts no longer. */
function endOfCell(limit: MeterLimit, cell: number): number {
  return ((cell + ROUND) * limit.windowMs) / CELLS
}

/** What is changed holds nothing that has run out. */
function current(state: MeterState): number[] {
  state.history ??= []
  if (state.gone > 0) state.history.splice(0, state.gone)
  state.gone = 0
  return state.history
}

function add(history: number[], cell: number, amount: number): void {
  let place = history.length - 2
  while (place >= 0 && (history[place] as number) > cell) place -= 2
  if (place >= 0 && history[place] === cell) (history[place + 1] as number) += amount
  else history.splice(place + 2, 0, cell, amount)
}

/** Takes up to an amount from the entry at a place; returns what it took. */
function take(history: number[], place: number, amount: number): number {
  const there = history[place + 1] as number
  const taken = Math.min(amount, there)
  history[place + 1] = there - taken
  if (there - taken <= 0) history.splice(place, 2)
  return taken
}

/** Debt stands in cells after the present one, each a whole round after the one before. */
function addDebt(limit: MeterLimit, history: number[], debt: number, present: number): void {
  const { capacity } = limit
  let amount = debt
  let cell = present
  const last = history.length - 2
  if (last >= 0 && (history[last] as number) > present) {
    cell = history[last] as number
    const fill = Math.min(amount, roomBeside(limit, history, cell - ROUND))
    ;(history[last + 1] as number) += fill
    amount -= fill
  }
  // One entry for all whole ones: nothing passes before the last of them ends.
  const whole = Math.floor(amount / capacity)
  let sum = whole * capacity
  while (history.length > 0 && (history.at(-2) as number) > present && (history.at(-1) as number) >= capacity) {
    sum += history.pop() as number
    history.pop()
  }
  cell += whole * ROUND
  if (sum > 0) add(history, cell, sum)
  const rest = amount - whole * capacity
  if (rest > 0) add(history, cell + ROUND, rest)
}

/**
 * Sliding window: never more than the limit in any window. What was charged in a cell (a
 * thirty-second of the window) counts until all of the cell is out of the window, so at most
 * a thirty-third of the limit lies idle, and the state is bounded whatever the limit. The
 * history is `cell, amount, …`, ascending. `lua/lib/algorithms/sliding-window.lua` says more.
 */
export const slidingWindow: Algorithm = {
  keyed: false,
  tellsReset: true,
  slack: slackOfSum,
  roll(state, limit, fromMs, nowMs) {
    if (state.history === null) return
    if (fromMs > nowMs) {
      const back = cellOf(limit, fromMs) - cellOf(limit, nowMs)
      state.history = state.history.map((value, place) => (place % 2 === 0 ? value - back : value))
    }
    const { history } = state
    const oldest = cellOf(limit, nowMs) - CELLS
    while (state.gone < history.length && (history[state.gone] as number) < oldest) {
      state.used -= history[state.gone + 1] as number
      state.gone += 2
    }
    state.used = isEmpty(state) ? 0 : Math.max(0, state.used)
  },
  waitMs({ used, history, gone }, limit, nowMs, cost, ahead) {
    const wanted = used + cost + ahead - limit.capacity
    if (wanted <= limit.slack) return 0
    let { over, rounds } = roundsAhead(limit, used, wanted)
    for (let place = gone; history !== null && place < history.length; place += 2) {
      over -= history[place + 1] as number
      if (over <= limit.slack) return waitUp(endOfCell(limit, (history[place] as number) + rounds * ROUND) - nowMs)
    }
    return waitUp(endOfCell(limit, cellOf(limit, nowMs) + rounds * ROUND) - nowMs)
  },
  charge(state, limit, amount, nowMs) {
    add(current(state), cellOf(limit, nowMs), amount)
    state.used += amount
  },
  overrun(state, limit, amount, atMs, nowMs) {
    const history = current(state)
    const present = cellOf(limit, nowMs)
    const charged = cellOf(limit, Math.min(atMs, nowMs))
    const beyond = beyondCapacity(limit, state.used, amount)
    if (amount > beyond) add(history, charged < present - CELLS ? present : charged, amount - beyond)
    if (beyond > 0) addDebt(limit, history, beyond, present)
    state.used += amount
  },
  refund(state, limit, amount, atMs, nowMs) {
    const history = state.history ?? []
    const present = cellOf(limit, nowMs)
    const charged = cellOf(limit, atMs)
    if (charged < present - CELLS) return false
    let left = amount
    while (left > 0 && history.length > state.gone && (history.at(-2) as number) > present) left -= take(history, history.length - 2, left)
    for (let place = state.gone; left > 0 && place < history.length; place += 2) {
      if (history[place] !== charged) continue
      left -= take(history, place, left)
      break
    }
    state.used = isEmpty(state) ? 0 : Math.max(0, state.used - (amount - left))
    return left < amount
  },
  resetMs: (state, limit, nowMs) => (isEmpty(state) ? 0 : Math.max(0, endOfCell(limit, state.history?.at(-2) as number) - nowMs)),
  remaining: counted.remaining,
}

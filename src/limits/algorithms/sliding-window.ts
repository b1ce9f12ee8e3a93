import { type Algorithm, counted, type MeterLimit, type MeterState, slackOfSum, waitUp } from '../algorithm.js'

/** Whether no charge of a sliding algorithm counts any more. */
export function isEmpty({ history, gone }: MeterState): boolean {
  return history === null || history.length === gone
}

/** Drops the charges of a state whose time or cell is not after `ended`; first moves them all `back`, where the clock was set back. */
export function rollHistory(state: MeterState, back: number, ended: number): void {
  if (state.history === null) return
  if (back > 0) state.history = state.history.map((value, place) => (place % 2 === 0 ? value - back : value))
  const { history } = state
  while (state.gone < history.length && (history[state.gone] as number) <= ended) {
    state.used -= history[state.gone + 1] as number
    state.gone += 2
  }
  state.used = isEmpty(state) ? 0 : Math.max(0, state.used)
}

/** Removes up to an amount from the pair at a place; returns how much was removed. */
export function removeFromPair(history: number[], place: number, amount: number): number {
  const there = history[place + 1] as number
  const removed = Math.min(amount, there)
  history[place + 1] = there - removed
  if (there - removed <= 0) history.splice(place, 2)
  return removed
}

/**
 * Splits `over`, the amount that has to expire before a call fits, into whole rounds and a rest:
 * the calls ahead of it take what is free and what expires, and their charges expire a round later.
 */
export function roundsAhead(limit: MeterLimit, used: number, over: number): { over: number; rounds: number } {
  const round = Math.max(used, limit.capacity)
  const rounds = Math.max(0, Math.ceil((over - limit.slack) / round) - 1)
  return { over: over - rounds * round, rounds }
}

/** The part of an overrun that exceeds the capacity, and so is debt. A limit of 0 owes nothing. */
export function beyondCapacity({ capacity }: MeterLimit, used: number, amount: number): number {
  return capacity > 0 ? Math.max(0, Math.min(amount, used + amount - capacity)) : 0
}

/**
 * Adds debt to the last charge if that lies in the future, as far as there is room beside all charges less than a window before it.
 * Returns the time or cell of that charge (else the present one), and the debt that is left.
 */
export function fillLast({ capacity }: MeterLimit, history: number[], debt: number, present: number, window: number): { at: number; left: number } {
  const last = history.length - 2
  const at = last >= 0 ? (history[last] as number) : present
  if (at <= present) return { at: present, left: debt }
  let room = capacity
  for (let place = last; place >= 0 && (history[place] as number) > at - window; place -= 2) room -= history[place + 1] as number
  const fill = Math.min(debt, Math.max(0, room))
  ;(history[last + 1] as number) += fill
  return { at, left: debt - fill }
}

export const SLIDING_CELLS = 32
/** A cell expires this many cells later. */
const ROUND = SLIDING_CELLS + 1

function cellOf(limit: MeterLimit, atMs: number): number {
  return Math.floor((atMs * SLIDING_CELLS) / limit.windowMs)
}

/** When the charges of a cell expire, in ms since the epoch. */
function endOfCell(limit: MeterLimit, cell: number): number {
  return ((cell + ROUND) * limit.windowMs) / SLIDING_CELLS
}

/** Makes the history of a state writable: drops the expired cells. */
function writableCells(state: MeterState): number[] {
  state.history ??= []
  if (state.gone > 0) state.history.splice(0, state.gone)
  state.gone = 0
  return state.history
}

function addToCell(history: number[], cell: number, amount: number): void {
  let place = history.length - 2
  while (place >= 0 && (history[place] as number) > cell) place -= 2
  if (place >= 0 && history[place] === cell) (history[place + 1] as number) += amount
  else history.splice(place + 2, 0, cell, amount)
}

/** Puts debt into future cells, each a whole round after the one before: every round repays at most the capacity. */
function addDebt(limit: MeterLimit, history: number[], debt: number, present: number): void {
  const { capacity } = limit
  const { at, left: amount } = fillLast(limit, history, debt, present, ROUND)
  // Whole rounds share one cell, the last: no call can pass before it expires.
  const whole = Math.floor(amount / capacity)
  let sum = whole * capacity
  while (history.length > 0 && (history.at(-2) as number) > present && (history.at(-1) as number) >= capacity) {
    sum += history.pop() as number
    history.pop()
  }
  const cell = at + whole * ROUND
  if (sum > 0) addToCell(history, cell, sum)
  const rest = amount - whole * capacity
  if (rest > 0) addToCell(history, cell + ROUND, rest)
}

/**
 * Sliding window: at most the limit in any window, wherever it begins. Charges are summed per cell (1/32 of the window) and expire when the whole
 * cell has left the window, so at most 1/33 of the limit lies idle, and the state is bounded whatever the limit. `history` is `cell, amount, …`,
 * ascending. The twin `lua/lib/algorithms/sliding-window.lua` derives the bounds.
 */
export const slidingWindow: Algorithm = {
  keyed: false,
  resetInReply: true,
  leaks: false,
  slack: slackOfSum,
  roll(state, limit, fromMs, nowMs) {
    const present = cellOf(limit, nowMs)
    rollHistory(state, cellOf(limit, fromMs) - present, present - ROUND)
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
    addToCell(writableCells(state), cellOf(limit, nowMs), amount)
    state.used += amount
  },
  overrun(state, limit, amount, atMs, nowMs) {
    const history = writableCells(state)
    const present = cellOf(limit, nowMs)
    const charged = cellOf(limit, Math.min(atMs, nowMs))
    const beyond = beyondCapacity(limit, state.used, amount)
    if (amount > beyond) addToCell(history, charged < present - SLIDING_CELLS ? present : charged, amount - beyond)
    if (beyond > 0) addDebt(limit, history, beyond, present)
    state.used += amount
  },
  refund(state, limit, amount, atMs, nowMs) {
    const history = state.history ?? []
    const present = cellOf(limit, nowMs)
    const charged = cellOf(limit, atMs)
    if (charged < present - SLIDING_CELLS) return false
    let left = amount
    while (left > 0 && history.length > state.gone && (history.at(-2) as number) > present) left -= removeFromPair(history, history.length - 2, left)
    for (let place = state.gone; left > 0 && place < history.length; place += 2) {
      if (history[place] !== charged) continue
      left -= removeFromPair(history, place, left)
      break
    }
    state.used = isEmpty(state) ? 0 : Math.max(0, state.used - (amount - left))
    return left < amount
  },
  resetMs: (state, limit, nowMs) => (isEmpty(state) ? 0 : Math.max(0, endOfCell(limit, state.history?.at(-2) as number) - nowMs)),
  remaining: counted.remaining,
}

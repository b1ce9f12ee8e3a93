import { type Algorithm, counted, type MeterLimit, type MeterState, slackOfSum, waitUp } from '../algorithm.js'
import { beyondCapacity, fillLast, isEmpty, removeFromPair, rollHistory, roundsAhead } from './sliding-window.js'

/** A log that may be written to: pairs `time, amount`, ascending, and the holder of each. It contains no expired pair. */
interface Log {
  readonly pairs: number[]
  readonly holders: string[]
}

/** Makes the log of a state writable: drops the expired pairs. */
function writableLog(state: MeterState): Log {
  state.history ??= []
  state.holders ??= []
  if (state.gone > 0) {
    state.history.splice(0, state.gone)
    state.holders.splice(0, state.gone / 2)
    state.gone = 0
  }
  return { pairs: state.history, holders: state.holders }
}

function addToLog({ pairs, holders }: Log, atMs: number, amount: number, holder: string): void {
  let place = pairs.length - 2
  while (place >= 0 && (pairs[place] as number) > atMs) place -= 2
  if (place === pairs.length - 2) {
    pairs.push(atMs, amount)
    holders.push(holder)
  } else {
    pairs.splice(place + 2, 0, atMs, amount)
    holders.splice(place / 2 + 1, 0, holder)
  }
}

/** Removes up to an amount from the pair at a place; returns how much was removed. */
function removeFromLog({ pairs, holders }: Log, place: number, amount: number): number {
  const { length } = pairs
  const removed = removeFromPair(pairs, place, amount)
  if (pairs.length < length) holders.splice(place / 2, 1)
  return removed
}

/** Dates debt into the future: the capacity of each coming window is filled before the next one's. */
function dateDebt(limit: MeterLimit, log: Log, debt: number, nowMs: number): void {
  const { at, left: amount } = fillLast(limit, log.pairs, debt, nowMs, limit.windowMs)
  const whole = Math.floor(amount / limit.capacity)
  const atMs = at + whole * limit.windowMs
  if (whole > 0) addToLog(log, atMs, whole * limit.capacity, '')
  if (amount > whole * limit.capacity) addToLog(log, atMs + limit.windowMs, amount - whole * limit.capacity, '')
}

/** Times that differ by less are one charge. Rounding errors are below it; a history that was shifted because the clock was set back is off by more. */
const SAME_TIME_MS = 1

/** The place of a holder's charge at a time; -1 where the log has none. */
function chargeOf({ pairs, holders }: Log, from: number, atMs: number, holder: string): number {
  for (let place = pairs.length - 2; place >= from && (pairs[place] as number) >= atMs - SAME_TIME_MS; place -= 2) {
    if (holders[place / 2] === holder && (pairs[place] as number) <= atMs + SAME_TIME_MS) return place
  }
  return -1
}

/**
 * Sliding log: stores each charge of the last window with its time, so its window is exact. Its
 * memory grows with the number of calls in a window. Overrun beyond the limit is dated ahead.
 */
export const slidingLog: Algorithm = {
  keyed: true,
  resetInReply: true,
  leaks: false,
  slack: slackOfSum,
  roll(state, limit, fromMs, nowMs) {
    rollHistory(state, fromMs - nowMs, nowMs - limit.windowMs)
  },
  waitMs({ used, history, gone }, limit, nowMs, cost, ahead) {
    const wanted = used + cost + ahead - limit.capacity
    if (wanted <= limit.slack) return 0
    let { over, rounds } = roundsAhead(limit, used, wanted)
    for (let place = gone; history !== null && place < history.length; place += 2) {
      over -= history[place + 1] as number
      if (over <= limit.slack) return waitUp((history[place] as number) + (rounds + 1) * limit.windowMs - nowMs)
    }
    return waitUp(limit.windowMs * (rounds + 1))
  },
  charge(state, _limit, amount, nowMs, holder) {
    addToLog(writableLog(state), nowMs, amount, holder)
    state.used += amount
  },
  overrun(state, limit, amount, atMs, nowMs, holder) {
    const log = writableLog(state)
    const beyond = beyondCapacity(limit, state.used, amount)
    if (amount > beyond) {
      const own = holder !== '' && atMs > nowMs - limit.windowMs ? chargeOf(log, state.gone, Math.min(atMs, nowMs), holder) : -1
      if (own >= 0) (log.pairs[own + 1] as number) += amount - beyond
      else addToLog(log, nowMs, amount - beyond, '')
    }
    if (beyond > 0) dateDebt(limit, log, beyond, nowMs)
    state.used += amount
  },
  refund(state, limit, amount, atMs, nowMs, holder) {
    const log: Log = { pairs: state.history ?? [], holders: state.holders ?? [] }
    let left = amount
    while (left > 0 && log.pairs.length > state.gone && (log.pairs.at(-2) as number) > nowMs) left -= removeFromLog(log, log.pairs.length - 2, left)
    const place = left > 0 && atMs > nowMs - limit.windowMs ? chargeOf(log, state.gone, atMs, holder) : -1
    if (place >= 0) left -= removeFromLog(log, place, left)
    state.used = isEmpty(state) ? 0 : Math.max(0, state.used - (amount - left))
    return left < amount
  },
  resetMs: (state, limit, nowMs) => (isEmpty(state) ? 0 : Math.max(0, (state.history?.at(-2) as number) + limit.windowMs - nowMs)),
  remaining: counted.remaining,
}

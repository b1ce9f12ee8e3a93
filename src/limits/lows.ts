import type { MeterLimit, MeterState } from './algorithm.js'

/**
 * Lows: what a bucket may give back. A bucket gives room back by the clock. What a call was charged too much can go back once only: as far as the
 * clock has given it back already, a refund would make the same room twice. It still lacks in the bucket as far as the bucket was never emptier than
 * that since the charge; so at most the least that was used at any time since the charge may go back.
 *
 * A state keeps that least for its open calls: `lows` is a list of `sinceMs, least, open, …`, ascending in time and in what was least used. A call
 * that was charged at `sinceMs` or later, and before the next entry, may give back at most `least`; `open` counts these calls. For a call charged at
 * the present time all that is used may go back, and for one charged before the first entry nothing. So a bucket without open calls, or whose open
 * calls were all charged at the time of its state, needs no list.
 *
 * A limit whose costs are known when calls start gives back only where a call is released. It has no list until a call gives back late, and then
 * keeps one until it is empty. Of calls charged before that, what must have come back by the clock is taken off instead.
 *
 * docs/decisions/0031-what-a-bucket-may-give-back.md says why all of this is enough. The twin is `lua/lib/lows.lua`.
 */
export type Lows = readonly number[]

/** The most entries of a list; two are merged where there would be more. */
export const LOWS_AT_MOST = 8
const ENTRY = 3

/** The place of the entry of calls that were charged at a time; -1 where there is none. */
function placeOf(lows: Lows, atMs: number): number {
  let place = lows.length - ENTRY
  while (place >= 0 && (lows[place] as number) > atMs) place -= ENTRY
  return place
}

/** Merges the two entries whose leasts differ least, or drops the first one where its least is smaller still: calls may give back less than they could. */
function withinBound(lows: number[]): number[] {
  if (lows.length <= ENTRY * LOWS_AT_MOST) return lows
  let [found, smallest, before] = [0, Number.POSITIVE_INFINITY, 0]
  for (let place = 0; place < lows.length; place += ENTRY) {
    const least = lows[place + 1] as number
    if (least - before < smallest) [found, smallest] = [place, least - before]
    before = least
  }
  if (found > 0) (lows[found - 1] as number) += lows[found + 2] as number
  lows.splice(found, ENTRY)
  return lows
}

function levelOf({ used, debt }: MeterState): number {
  return used + debt
}

/**
 * Time has passed: the state was brought to the present, and less is used.
 * @param sinceMs the time of the state before, at which `open` of its calls were charged
 */
export function lower(state: MeterState, { estimated }: MeterLimit, sinceMs: number, open: number): void {
  const level = levelOf(state)
  if (state.lows === null && (open === 0 || level === 0 || !estimated)) return
  const lows = state.lows === null || level === 0 ? [] : state.lows.slice()
  let [since, calls] = [sinceMs, open]
  while (lows.length > 0 && (lows.at(-2) as number) >= level) {
    calls += lows.pop() as number
    lows.pop()
    since = lows.pop() as number
  }
  if (level > 0 && calls > 0) lows.push(since, level, calls)
  state.lows = lows.length > 0 ? withinBound(lows) : null
}

/**
 * How much of an amount may go back of a call that was charged at a time; the caller takes it off what is used.
 * @param presentMs the time of the state
 */
export function giveBack(state: MeterState, limit: MeterLimit, amount: number, atMs: number, presentMs: number): number {
  const level = levelOf(state)
  // Charged by a clock that was set back since.
  if (atMs > presentMs) return 0
  if (atMs === presentMs) return take(state, Math.min(amount, level), state.lows?.length ?? 0, level)
  const place = placeOf(state.lows ?? [], atMs)
  if (place >= 0) {
    const most = state.lows?.[place + 1] as number
    return take(state, Math.min(amount, most, level), place, most)
  }
  if (limit.estimated) return 0
  const back = Math.max(0, Math.min(amount - (presentMs - atMs) * limit.rate, level))
  if (state.lows !== null) return take(state, back, 0, level)
  // From now on it has a list; its first entry is closed by no call.
  if (level > back) state.lows = [presentMs, level - back, 1]
  return back
}

/**
 * Takes an amount off the leasts of calls charged at the entry of a place or later; those of before follow.
 * @param most the least of the calls at the place
 */
function take(state: MeterState, back: number, place: number, most: number): number {
  if (state.lows === null) return back
  const lows = state.lows.slice()
  for (let later = place; later < lows.length; later += ENTRY) (lows[later + 1] as number) -= back
  for (let earlier = place - ENTRY; earlier >= 0; earlier -= ENTRY) lows[earlier + 1] = Math.min(lows[earlier + 1] as number, most - back)
  while (lows.length > 0 && (lows[1] as number) <= 0) lows.splice(0, ENTRY)
  state.lows = lows.length > 0 ? lows : null
  return back
}

/** A call has cost more than it was charged at a time. The agent saw that cost then, so it still lacks as well: calls that were charged since may give back more. */
export function raise(state: MeterState, limit: MeterLimit, amount: number, atMs: number, presentMs: number): void {
  if (atMs >= presentMs || (state.lows === null && !limit.estimated)) return
  const lows = state.lows === null ? [] : state.lows.slice()
  let place = placeOf(lows, atMs)
  if (place < 0) {
    lows.unshift(atMs, 0, 1)
    place = 0
  } else if ((lows[place] as number) < atMs) {
    // The other calls of the entry may have been charged before this one.
    if ((lows[place + 2] as number) <= 1) lows[place] = atMs
    else {
      ;(lows[place + 2] as number)--
      lows.splice(place + ENTRY, 0, atMs, lows[place + 1] as number, 1)
      place += ENTRY
    }
  }
  for (; place < lows.length; place += ENTRY) (lows[place + 1] as number) += amount
  state.lows = withinBound(lows)
}

/** A call that was charged before the present time has ended. Returns whether the list has changed. */
export function close(state: MeterState, atMs: number): boolean {
  const place = placeOf(state.lows ?? [], atMs)
  if (state.lows === null || place < 0) return false
  const lows = state.lows.slice()
  if (--(lows[place + 2] as number) <= 0) lows.splice(place, ENTRY)
  state.lows = lows.length > 0 ? lows : null
  return true
}

import { DEFAULTS } from '../../model/defaults.js'
import { type Algorithm, counted, type MeterLimit, type MeterNumbers, type MeterState, NO_BOUND, slackOfSum, waitUp } from '../algorithm.js'

/** The limit that an algorithm of a user's own counts: what it holds, what comes back per ms, and the window that this was given by. */
export type AlgorithmLimit = Pick<MeterNumbers, 'capacity' | 'rate' | 'windowMs'>

/** The most numbers of a state. */
export const STATE_AT_MOST = 32

/**
 * An algorithm of a user's own, for the limits that name it as `custom:<name>`: the functions decide in this process, for limits in memory and while
 * Redis is away, and those of the same names in `lua` decide in Redis. Both must answer the same, and depend on their arguments only.
 *
 * A state is a list of at most 32 numbers, [] where nothing is used. Times are in ms and never go back, amounts in the unit of the limit.
 */
export interface RuleAlgorithm {
  /** The text of a Lua module that returns a table of the same functions. */
  readonly lua: string
  /** What is used. 0 means that the state counts nothing any more: then it is forgotten. */
  used(limit: AlgorithmLimit, state: readonly number[], nowMs: number): number
  /** Milliseconds until a cost fits behind `ahead`, the room that other calls have a right to first; 0 = now. */
  waitMs(limit: AlgorithmLimit, state: readonly number[], nowMs: number, cost: number, ahead: number): number
  /** Changes the state by a charge, whether there is room or not: a call may cost more than was estimated. */
  charge(limit: AlgorithmLimit, state: number[], nowMs: number, amount: number): void
  /** Changes the state by what comes back of a charge of `atMs`. Without it nothing does. */
  refund?(limit: AlgorithmLimit, state: number[], nowMs: number, amount: number, atMs: number): void
  /** Milliseconds until nothing is used, if nothing else is charged. */
  resetMs(limit: AlgorithmLimit, state: readonly number[], nowMs: number): number
}

/** The algorithm of a limit. */
export interface OwnAlgorithm {
  readonly name: string
  readonly lua: string
  /** Its twin in this process; undefined where the process was not given the same one. */
  readonly twin?: RuleAlgorithm | undefined
  /** The capacity that the algorithm counts by, where that of the limit is lifted for a call. */
  readonly capacity?: number | undefined
  /** Is told of a function that fails. */
  failed?(fault: unknown): void
}

/** `history` is the shift of the time, the time of the last charge, and the state; see `lua/lib/algorithms/custom.lua`. */
const HEAD = 2
const LONGEST_MS = DEFAULTS.longestWindowMs
/** A shorter wait is none: Redis' clock cannot tell it apart. */
export const CUSTOM_SHORTEST_MS = 0.001

/** What the functions get of a limit. */
function numbersOf(limit: MeterLimit): AlgorithmLimit {
  const { capacity = limit.capacity } = limit.own ?? {}
  return capacity === limit.capacity ? limit : { ...limit, capacity }
}

function timeOf({ history }: MeterState, nowMs: number): number {
  return history === null ? nowMs : Math.max(nowMs + (history[0] as number), history[1] as number)
}

function stateOf({ history }: MeterState): number[] {
  return history?.slice(HEAD) ?? []
}

/** @throws Error where an answer is no number from 0 on */
export function answerOf(what: string, answer: unknown): number {
  if (typeof answer === 'number' && answer >= 0) return answer
  throw new Error(`${what} must answer a number from 0 on (got ${String(answer)})`)
}

/** @throws Error where a state is none */
export function stateAfter(what: string, state: readonly unknown[]): void {
  if (state.length > STATE_AT_MOST || !state.every(Number.isFinite)) throw new Error(`${what} must leave a list of at most ${STATE_AT_MOST} numbers`)
}

/** What a function answers; where it fails the algorithm has no room for a moment, as in Redis. */
function answerFrom({ own }: MeterLimit, most: number, instead: number, question: (twin: RuleAlgorithm) => number): number {
  if (own?.twin === undefined) return instead
  try {
    return Math.min(most, question(own.twin))
  } catch (fault) {
    own.failed?.(fault)
    return instead
  }
}

function usedAt(state: MeterState, limit: MeterLimit, nowMs: number): void {
  state.used =
    state.history === null
      ? 0
      : answerFrom(limit, NO_BOUND, limit.capacity, (twin) => answerOf('used', twin.used(numbersOf(limit), stateOf(state), timeOf(state, nowMs))))
  if (state.used === 0) state.history = null
}

/** @returns whether the state was changed */
function change(state: MeterState, limit: MeterLimit, nowMs: number, what: 'charge' | 'refund', amount: number, atMs: number): boolean {
  const { own } = limit
  const changes = own?.twin?.[what]
  if (own?.twin === undefined || changes === undefined) return false
  const time = timeOf(state, nowMs)
  const shift = state.history?.[0] ?? 0
  const changed = stateOf(state)
  try {
    changes.call(own.twin, numbersOf(limit), changed, time, amount, Math.min(time, atMs + shift))
    stateAfter(what, changed)
  } catch (fault) {
    own.failed?.(fault)
    return false
  }
  state.history = [shift, time, ...changed]
  usedAt(state, limit, nowMs)
  return true
}

/** An algorithm of a user's own, as the others are called: its twin is in `limit.own`. */
export const custom: Algorithm = {
  keyed: false,
  resetInReply: true,
  leaks: false,
  slack: slackOfSum,
  roll(state, limit, fromMs, nowMs) {
    if (state.history !== null && fromMs > nowMs) state.history = [(state.history[0] as number) + fromMs - nowMs, ...state.history.slice(1)]
    usedAt(state, limit, nowMs)
  },
  waitMs(state, limit, nowMs, cost, ahead) {
    if (limit.capacity >= NO_BOUND) return 0
    const ms = answerFrom(limit, LONGEST_MS, DEFAULTS.customFaultMs, (twin) =>
      answerOf('waitMs', twin.waitMs(numbersOf(limit), stateOf(state), timeOf(state, nowMs), cost, ahead)),
    )
    return ms < CUSTOM_SHORTEST_MS ? 0 : waitUp(ms)
  },
  charge(state, limit, amount, nowMs) {
    change(state, limit, nowMs, 'charge', amount, nowMs)
  },
  overrun(state, limit, amount, _atMs, nowMs) {
    change(state, limit, nowMs, 'charge', amount, nowMs)
  },
  refund(state, limit, amount, atMs, nowMs) {
    return change(state, limit, nowMs, 'refund', amount, atMs)
  },
  resetMs(state, limit, nowMs) {
    if (state.used === 0) return 0
    return Math.max(
      1,
      answerFrom(limit, LONGEST_MS, limit.windowMs, (twin) => answerOf('resetMs', twin.resetMs(numbersOf(limit), stateOf(state), timeOf(state, nowMs)))),
    )
  },
  remaining: counted.remaining,
}

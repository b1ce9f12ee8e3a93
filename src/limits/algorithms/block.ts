import { type Algorithm, counted, type MeterState, type RecoveryNumbers, waitUp } from '../algorithm.js'

/** The places of a block's history; `lua/lib/algorithms/block.lua` says what each means. */
export const SAID = {
  until: 0,
  level: 1,
  since: 2,
  proven: 3,
  patience: 4,
  canaryEnd: 5,
  canaryAt: 6,
  awaited: 7,
  /** And the code of a unit. */
  observed: 7,
  cutAt: 14,
} as const

const NOTHING_SAID = [0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] as const
const TIMES: readonly number[] = [SAID.until, SAID.since, SAID.canaryEnd, SAID.canaryAt, SAID.awaited, SAID.cutAt]
/** When a canary comes back nobody knows: longer than a worker holds a call. */
const CANARY_LOOK_MS = 2500
const MOST_PATIENCE = 10
const LEAST_LEVEL = 0.01

/** What was said, with how recovery goes: its steps are so far apart, and each multiplies by so much. */
export interface Said {
  readonly history: number[]
  readonly everyMs: number
  readonly grows: number
}

function at({ history }: Said, place: number): number {
  return history[place] as number
}

export function saidOf(history: number[], { everyMs, factor }: RecoveryNumbers): Said {
  return { history, everyMs, grows: factor }
}

/** How often the factor has grown by a time. */
function stepsUntil(said: Said, atMs: number): number {
  const pastMs = atMs - at(said, SAID.since) - said.everyMs * at(said, SAID.patience)
  return pastMs < 0 ? 0 : 1 + Math.floor(pastMs / said.everyMs)
}

/** Multiplied step by step, as the scripts do: a power might differ in its last bit. */
function levelAfter(said: Said, steps: number): number {
  let factor = at(said, SAID.level)
  for (let step = 0; step < steps && factor < 1; step++) factor *= said.grows
  return Math.min(1, factor)
}

/** The part of its limits that an agent is taken to allow at a time. */
export function factorAt(said: Said, atMs: number): number {
  return at(said, SAID.since) === 0 ? at(said, SAID.level) : levelAfter(said, stepsUntil(said, atMs))
}

/** How long it takes until nothing is cut any more. */
function recoveryMs(said: Said): number {
  let steps = 0
  for (let factor = at(said, SAID.level); factor < 1; factor *= said.grows) steps++
  return steps === 0 ? 0 : said.everyMs * (at(said, SAID.patience) + steps - 1)
}

/** Goes through the steps of recovery from a time on, each with its length and factor, until `fn` returns something. */
export function eachStep<T>(said: Said, from: number, fn: (lengthMs: number, factor: number) => T | undefined): T {
  let fromMs = Math.max(from, at(said, SAID.since))
  let factor = at(said, SAID.level)
  let endsMs = at(said, SAID.since) + said.everyMs * at(said, SAID.patience)
  while (factor < 1) {
    if (endsMs > fromMs) {
      const found = fn(endsMs - fromMs, factor)
      if (found !== undefined) return found
      fromMs = endsMs
    }
    factor *= said.grows
    endsMs += said.everyMs
  }
  return fn(Number.POSITIVE_INFINITY, 1) as T
}

/** A call that started at a time was refused: at which level to go on. */
function cutLevel(said: Said, startedMs: number, reduce: number): void {
  const { history } = said
  const steps = stepsUntil(said, startedMs)
  if (steps >= 1) {
    history[SAID.level] = levelAfter(said, steps - 1)
    history[SAID.proven] = history[SAID.level] as number
    history[SAID.patience] = Math.min(MOST_PATIENCE, at(said, SAID.patience) * 2)
  } else if (at(said, SAID.proven) > 0 && at(said, SAID.level) <= at(said, SAID.proven)) {
    history[SAID.proven] = 0
  } else {
    history[SAID.level] = Math.max(LEAST_LEVEL, at(said, SAID.level) * reduce)
    history[SAID.proven] = 0
  }
}

/** The history to be changed; forgotten where what was said is over. */
function changed(state: MeterState): number[] {
  if (state.used === 0 || state.history === null) state.history = [...NOTHING_SAID]
  return state.history
}

/** The agent refused a call that started at a time: see `lua/lib/upstream.lua`. Returns whether it was cut. */
export function refused(state: MeterState, limit: RecoveryNumbers, nowMs: number, tillMs: number, startedMs: number, reduce: number): boolean {
  const said = saidOf(changed(state), limit)
  const { history } = said
  const level = at(said, SAID.level)
  const recovering = at(said, SAID.since) > 0
  const cut = level >= 1 || (recovering && startedMs >= at(said, SAID.since))
  if (level >= 1) {
    history[SAID.level] = Math.max(LEAST_LEVEL, reduce)
    history[SAID.proven] = 0
    history[SAID.patience] = 1
  } else if (cut) cutLevel(said, startedMs, reduce)
  else if (recovering) history[SAID.level] = factorAt(said, nowMs)
  if (cut) history[SAID.cutAt] = nowMs
  const untilMs = Math.max(at(said, SAID.until), tillMs)
  history[SAID.until] = untilMs
  if (recovering) history[SAID.canaryEnd] = 0
  history[SAID.since] = limit.probeLeaseMs > 0 ? 0 : untilMs
  history[SAID.awaited] = 0
  state.used = untilMs + recoveryMs(said)
  return cut
}

/** The agent has nothing left before a time. */
export function paused(state: MeterState, tillMs: number): void {
  const history = changed(state)
  const untilMs = Math.max(history[SAID.until] as number, tillMs)
  history[SAID.until] = untilMs
  if ((history[SAID.level] as number) >= 1) history[SAID.since] = untilMs
  state.used = Math.max(state.used, untilMs)
}

/** @param rates units per ms that the agent was seen to allow, by unit; 0 = it did not say */
export function noteObserved({ used, history }: MeterState, rates: readonly number[]): void {
  if (used === 0 || history === null) return
  for (const [index, rate] of rates.entries()) if (rate > 0) history[SAID.observed + index + 1] = rate
}

/** Whether its time is over, and only a canary is waited for: when that is back nobody knows. */
export function awaitsCanary({ history }: MeterState, nowMs: number): boolean {
  return history !== null && (history[SAID.until] as number) <= nowMs
}

/** Starts as the canary if one is due. Returns whether it was. */
export function startedCanary(state: MeterState, { probeLeaseMs }: RecoveryNumbers, nowMs: number): boolean {
  const { history } = state
  if (history === null || history[SAID.since] !== 0) return false
  history[SAID.canaryEnd] = nowMs + probeLeaseMs
  history[SAID.canaryAt] = nowMs
  history[SAID.awaited] = 0
  // Nothing of it is over before its canary is back.
  state.used = Math.max(state.used, nowMs + probeLeaseMs)
  return true
}

/** A call has ended that started at a time: if it was the canary, recovery begins, or another one goes. Returns whether it was. */
export function endedCanary(state: MeterState, limit: RecoveryNumbers, startedMs: number, nowMs: number, passed: boolean): boolean {
  const { history } = state
  if (history === null || history[SAID.since] !== 0 || history[SAID.canaryEnd] === 0 || history[SAID.canaryAt] !== startedMs) return false
  history[SAID.canaryEnd] = 0
  if (passed && (history[SAID.until] as number) <= nowMs) {
    history[SAID.since] = nowMs
    state.used = nowMs + recoveryMs(saidOf(history, limit))
  }
  return true
}

/**
 * Block: what an agent has said about its limits. Nothing passes before a time, then one call,
 * the canary, then a part of its limits that grows to all of it; `lua/lib/algorithms/block.lua`
 * says how. What is used is the time at which all of that is over.
 */
export const block: Algorithm = {
  ...counted,
  slack: () => 0,
  roll(state, _limit, fromMs, nowMs) {
    const backMs = fromMs - nowMs
    if (backMs > 0) {
      state.used = Math.max(0, state.used - backMs)
      state.history = state.history?.map((value, place) => (TIMES.includes(place) && value > 0 ? Math.max(1, value - backMs) : value)) ?? null
    } else if (state.used <= nowMs) {
      state.used = 0
      state.history = null
    }
  },
  waitMs({ used, history }, _limit, nowMs, _cost, ahead) {
    if (used <= nowMs || history === null) return 0
    const canary = history[SAID.since] === 0
    const blockedMs = (history[SAID.until] as number) - nowMs
    const behind = canary && ahead > 0 && (history[SAID.awaited] as number) > nowMs
    if (blockedMs > 0) return waitUp(blockedMs + (behind ? CANARY_LOOK_MS : 0))
    if (!canary) return 0
    const leaseMs = (history[SAID.canaryEnd] as number) - nowMs
    if (leaseMs > 0) return waitUp(Math.min(CANARY_LOOK_MS, leaseMs))
    return ahead > 0 ? waitUp(CANARY_LOOK_MS) : 0
  },
  charge() {},
  overrun() {},
  refund: () => false,
  resetMs: (state, _limit, nowMs) => Math.max(0, state.used - nowMs),
}

import { COST_UNITS, type CostUnit } from '../../model/cost.js'
import { type Algorithm, counted, type MeterLimit, type MeterState, slackOfRate, waitUp } from '../algorithm.js'
import { eachStep, factorAt, SAID, type Said, saidOf } from './block.js'

/** What was said, of which a mirrored limit's state shares the history; null where nothing matters. */
function saidTo({ history }: MeterState, { recovery }: MeterLimit): Said | null {
  return history === null || recovery === undefined ? null : saidOf(history, recovery)
}

function isCut(said: Said | null, nowMs: number): said is Said {
  return said !== null && (said.history[SAID.since] as number) > 0 && factorAt(said, nowMs) < 1
}

/** The factor that the observed rate comes to. */
function mostOf({ history }: Said, { rate, unit }: MeterLimit): number {
  const observed = history[SAID.observed + COST_UNITS.indexOf(unit as CostUnit) + 1] ?? 0
  return observed > 0 ? observed / rate : Number.POSITIVE_INFINITY
}

/** Begins empty: nobody knows what the agent has left. */
export function emptied(state: MeterState, limit: MeterLimit, nowMs: number): void {
  const said = saidTo(state, limit)
  if (said !== null) state.used = limit.capacity * factorAt(said, nowMs)
}

/** A start under a cut. */
export function chargeLearned(state: MeterState, limit: MeterLimit, amount: number, nowMs: number): void {
  if (isCut(saidTo(state, limit), nowMs)) state.used += amount
}

/**
 * Learned: a limit of a rule that guards an agent, mirrored beside its block, as a bucket of
 * which only the factor's part is there: see `lua/lib/algorithms/learned.lua`.
 */
export const learned: Algorithm = {
  ...counted,
  slack: slackOfRate,
  roll(state, limit, fromMs, nowMs) {
    const said = saidTo(state, limit)
    if (said === null) {
      state.used = 0
      return
    }
    const sinceMs = said.history[SAID.since] as number
    if (sinceMs === 0 || fromMs >= nowMs || nowMs <= sinceMs) return
    const most = mostOf(said, limit)
    let leftMs = nowMs - Math.max(fromMs, sinceMs)
    let back = 0
    eachStep(said, fromMs, (lengthMs, factor) => {
      const part = Math.min(lengthMs, leftMs)
      back += part * Math.min(factor, most) * limit.rate
      leftMs -= part
      return leftMs <= 0 ? true : undefined
    })
    state.used = Math.max(0, state.used - back)
  },
  waitMs(state, limit, nowMs, cost, ahead) {
    const said = saidTo(state, limit)
    if (!isCut(said, nowMs)) return 0
    const capacity = limit.capacity * factorAt(said, nowMs)
    const most = mostOf(said, limit)
    let over = state.used + Math.min(cost, capacity) + ahead - capacity
    if (over <= limit.slack) return 0
    let waitedMs = Math.max(0, (said.history[SAID.since] as number) - nowMs)
    return eachStep(said, nowMs, (lengthMs, factor) => {
      const rate = limit.rate * Math.min(factor, most)
      if (over <= lengthMs * rate) return waitUp(waitedMs + over / rate)
      over -= lengthMs * rate
      waitedMs += lengthMs
      return undefined
    })
  },
  charge() {},
  overrun(state, limit, amount, atMs, nowMs) {
    const said = saidTo(state, limit)
    if (isCut(said, nowMs) && atMs >= (said.history[SAID.since] as number)) state.used += amount
  },
  refund(state, limit, amount, atMs, nowMs) {
    const said = saidTo(state, limit)
    if (!isCut(said, nowMs) || atMs < (said.history[SAID.since] as number)) return false
    state.used = Math.max(0, state.used - amount)
    return true
  },
  resetMs: () => 0,
}

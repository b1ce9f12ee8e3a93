import type { Usage } from '../decision.js'
import { emptyState, type MeterState } from '../meters/algorithm.js'
import { ALGORITHMS } from '../meters/index.js'
import type { CompiledRule } from '../rules/compile.js'
import type { CompiledLimit } from '../rules/compile-limit.js'

/** A clock set back by less than this opens no window twice; see `lua/lib/meter.lua`. */
const CLOCK_STEP_MS = 60_000

/** The states of a rule's limits for one scope value. */
export class MemoryMeter {
  private rule: CompiledRule
  private states: MeterState[]
  private atMs: number

  constructor(rule: CompiledRule, nowMs: number) {
    this.rule = rule
    this.states = rule.limits.map(emptyState)
    this.atMs = nowMs
  }

  /** The states in the order of the rule's limits, brought to now. A limit that was changed keeps its usage, found by its name. */
  at(rule: CompiledRule, nowMs: number): readonly MeterState[] {
    if (rule !== this.rule) this.adopt(rule)
    const fromMs = this.atMs
    const setBack = fromMs > nowMs + CLOCK_STEP_MS
    if (fromMs < nowMs || setBack) this.atMs = nowMs
    const { limits } = rule
    for (let n = 0; n < limits.length; n++) {
      const limit = limits[n] as CompiledLimit
      const state = this.states[n] as MeterState
      // Leases end by the clock as it is; histories move along with one that was set back.
      if (limit.unit === 'concurrency' || fromMs < nowMs || (setBack && state.history !== null)) ALGORITHMS[limit.algorithm].roll(state, limit, fromMs, nowMs)
    }
    return this.states
  }

  /** Whether nothing is used any more. */
  idle(nowMs: number): boolean {
    const states = this.at(this.rule, nowMs)
    return this.rule.limits.every((limit, n) => ALGORITHMS[limit.algorithm].resetMs(states[n] as MeterState, limit, nowMs) <= 0)
  }

  private adopt(rule: CompiledRule): void {
    const known = new Map(this.rule.limits.map(({ name }, n) => [name, this.states[n] as MeterState]))
    this.states = rule.limits.map(({ name }) => known.get(name) ?? emptyState())
    this.rule = rule
  }
}

export function usageOf(rule: CompiledRule, limit: CompiledLimit, scopeValue: string, state: MeterState, nowMs: number): Usage {
  const algorithm = ALGORITHMS[limit.algorithm]
  const used = state.used + state.debt
  return {
    rule: rule.name,
    limit: limit.name,
    scopeValue,
    unit: limit.unit as Usage['unit'],
    capacity: limit.capacity,
    used,
    claimed: 0,
    remaining: algorithm.remaining(used, limit),
    resetMs: algorithm.resetMs(state, limit, nowMs),
  }
}

import type { CompiledLimit } from '../limits/compiled-limit.js'
import type { Call, Strategy } from '../model/call.js'
import type { ActualCosts, Costs } from '../model/cost.js'
import type { Binding } from '../model/decision.js'
import type { CompiledRule } from '../policy/compiled-rule.js'
import { BLOCK_NAME } from '../policy/upstream-block.js'

/** A call as the gate asks for it. */
export interface Asked {
  readonly id: string
  /** Distinguishes one start of the call from the next; a repeated one is not charged again. */
  readonly token: string
  /** The ledger that its start shares with those it started with, its token being its place there. */
  readonly ledger?: string | undefined
  /** Charged for good: no entry is kept by which it could be settled or given back. */
  readonly forGood?: boolean | undefined
  readonly call: Pick<Call, 'id' | 'priority' | 'strategy' | 'deadline' | 'maxWaitMs'>
  /** As it is asked for this time, whatever the call says of itself. */
  readonly strategy?: Strategy | undefined
  readonly demand: Demand
}

/** A call that has been asked about with all that it says. */
export interface AskedCall extends Asked {
  readonly call: Call
}

/** A started call that has ended, and what it really cost. */
export interface Settlement {
  readonly asked: Asked
  readonly actual: ActualCosts
}

/** The keys that a call brings into a script call at most, but for those of single limits. */
export function weightOf({ demand }: Asked): number {
  return demand.parts.length + 1
}

/** One rule's meters as one call meets them. */
export interface DemandPart {
  readonly rule: CompiledRule
  readonly value: string
  /** Its state and, for each limit that has one, a key of its own. */
  readonly keys: readonly string[]
  /** Its line. */
  readonly line: string
}

/** A limit at its meter, as what a call waits for or was refused by. */
export function bindingOf({ rule, value }: Pick<DemandPart, 'rule' | 'value'>, limit: CompiledLimit): Binding {
  return { rule: rule.name, limit: limit.name, scopeValue: value, unit: limit.unit }
}

/** What one call asks of all its meters at once. */
export interface Demand {
  readonly parts: readonly DemandPart[]
  readonly costs: Costs
  /** The codes of the units that are counted, by these meters and others of their rules: what a ledger keeps. */
  readonly counted: readonly number[]
}

/** What a call asks of a limit in its unit. */
export function costIn(costs: Costs, unit: CompiledLimit['unit']): number {
  return unit === 'concurrency' ? 1 : unit === 'none' ? 0 : costs[unit]
}

/** The place of the block's meter in a demand, from 1; 0 = it has none. */
export function blockPlace({ parts }: Demand): number {
  return parts.findLastIndex(({ rule }) => rule.name === BLOCK_NAME) + 1
}

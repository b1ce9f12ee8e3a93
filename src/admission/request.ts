import type { CompiledLimit } from '../limits/compiled-limit.js'
import type { Call, Strategy } from '../model/call.js'
import type { ActualCosts, Costs, CostUnit } from '../model/cost.js'
import type { Binding } from '../model/decision.js'
import type { CompiledRule } from '../policy/compiled-rule.js'

/** The meter of one rule for one scope value, as a call meets it. */
export interface MeterRef {
  readonly rule: CompiledRule
  readonly value: string
  /** The key of its state and, for each limit that has one, a key of its own. */
  readonly keys: readonly string[]
  /** The key of its line. */
  readonly line: string
}

/** The meters that one call meets under one set of rules, and what it costs. */
export interface ResolvedMeters {
  readonly meters: readonly MeterRef[]
  readonly costs: Costs
  /** The units that any rule of the set counts: a ledger entry keeps the cost in each of them. */
  readonly counted: readonly CostUnit[]
}

/** What a store is asked: to admit one call at all of its meters, or at none. */
export interface AdmissionRequest extends ResolvedMeters {
  readonly id: string
  /** Tells one start of the call from the next. A start that is sent again under the same token is charged once. */
  readonly token: string
  /** The name of the ledger that the calls of one batch share; `token` is the call's place in it. */
  readonly ledger?: string | undefined
  /** Charged for good: no ledger entry is kept, so the charge cannot be settled or given back. */
  readonly forGood?: boolean | undefined
  readonly call: Pick<Call, 'id' | 'priority' | 'strategy' | 'deadline' | 'maxWaitMs'>
  /** Goes before the strategy of the call and of its rules. */
  readonly strategy?: Strategy | undefined
}

/** A request that still carries the complete Call: needed where the call may have to be stored in a line. */
export interface CallRequest extends AdmissionRequest {
  readonly call: Call
}

/** A started call that has ended, and what it really cost. */
export interface Settlement {
  readonly request: AdmissionRequest
  readonly actual: ActualCosts
}

const NO_CALL = {}

/** A request about meters alone, for no call: charged for good where it is charged. */
export function meterRequest({ meters, costs, counted }: ResolvedMeters, id = ''): AdmissionRequest {
  return { id, token: '', forGood: true, call: NO_CALL, meters, costs, counted }
}

/** The keys that a call brings into a script call at most, but for those of single limits. */
export function weightOf({ meters }: AdmissionRequest): number {
  return meters.length + 1
}

/** A limit at its meter, as what a call waits for or was refused by. */
export function bindingOf({ rule, value }: Pick<MeterRef, 'rule' | 'value'>, limit: Pick<CompiledLimit, 'name' | 'unit'>): Binding {
  return { kind: rule.kind, rule: rule.name, limit: limit.name, scopeValue: value, unit: limit.unit }
}

/** What a call costs at a limit of this unit. */
export function costIn(costs: Costs, unit: CompiledLimit['unit']): number {
  return unit === 'concurrency' ? 1 : costs[unit]
}

/** The place of the upstream block among the meters of a call, from 1; 0 where there is none. */
export function blockPlace({ meters }: ResolvedMeters): number {
  return meters.findLastIndex(({ rule }) => rule.kind === 'upstream') + 1
}

import { ALGORITHMS } from '../limits/algorithms.js'
import type { CompiledLimit } from '../limits/compiled-limit.js'
import type { Call, Strategy } from '../model/call.js'
import type { ActualCosts, Cost, Costs, CostUnit } from '../model/cost.js'
import type { Binding, Usage } from '../model/decision.js'
import { BLOCK_LIMIT } from '../model/upstream.js'
import type { CompiledRule } from '../policy/compiled-rule.js'
import type { Keys } from '../redis/keys.js'

/** One of the meters of a call: a rule and the scope value that it counts the call by. */
export interface MeterRef {
  readonly rule: CompiledRule
  readonly value: string
  /** The key of the meter's state, then the own keys of its `keyed` limits in their order. */
  readonly keys: readonly string[]
  /** The key of the line of calls that wait for this meter. */
  readonly line: string
}

/** The meter of a rule for one scope value. Its keys are built at their first use: a meter in memory never needs them. */
class LazyMeterRef implements MeterRef {
  #keys: readonly string[] | undefined
  #line: string | undefined

  constructor(
    readonly rule: CompiledRule,
    readonly value: string,
    private readonly names: Keys,
  ) {}

  get keys(): readonly string[] {
    const { name, keyed } = this.rule
    this.#keys ??= [
      this.names.meter(name, this.value),
      ...keyed.map((limit) => (limit.unit === 'concurrency' ? this.names.leases(name, this.value) : this.names.log(name, limit.id, this.value))),
    ]
    return this.#keys
  }

  get line(): string {
    this.#line ??= this.names.line(this.rule.name, this.value)
    return this.#line
  }
}

/** The cache of a rule holds at least its last so many meters, so that busy ones are not built for each call, and at most twice as many. */
const CACHED_METERS = 10_000

export class RuleMeters {
  private recent = new Map<string, MeterRef>()
  /** The generation before `recent`: a meter that is not used again is dropped with it. */
  private older = new Map<string, MeterRef>()

  constructor(
    private readonly rule: CompiledRule,
    private readonly names: Keys,
  ) {}

  /** @param call any call of this meter, to find its override: the override is the same for all calls of one meter */
  meter(value: string, call?: Call): MeterRef {
    return this.meterFor(value, () => (call && this.rule.variants?.of(call)) ?? this.rule)
  }

  /** A meter that may not be that of any call yet: it is not kept, since which override it has is known by a call. */
  apart(value: string): MeterRef {
    return this.recent.get(value) ?? this.older.get(value) ?? new LazyMeterRef(this.rule, value, this.names)
  }

  /** @param ruleOf gives the rule of a meter that is not cached, where the rule depends on the value */
  meterFor(value: string, ruleOf: () => CompiledRule): MeterRef {
    const known = this.recent.get(value)
    if (known !== undefined) return known
    const meter = this.older.get(value) ?? new LazyMeterRef(ruleOf(), value, this.names)
    if (this.recent.size >= CACHED_METERS) {
      this.older = this.recent
      this.recent = new Map()
    }
    this.recent.set(value, meter)
    return meter
  }
}

/** The meters of one call under one version of the rules, and its cost. */
export interface ResolvedMeters {
  readonly meters: readonly MeterRef[]
  readonly costs: Costs
  /** The units of cost that any rule of that version counts: a ledger entry keeps the cost in each of them. */
  readonly counted: readonly CostUnit[]
}

/** A request to admit one call at all of its meters, or at none. */
export interface AdmissionRequest extends ResolvedMeters {
  readonly id: string
  /**
   * Identifies one start of the call. A start that is repeated with the same token is charged once. Of a call with an id at the gate it is the identity
   * of the call (`tokenOf`): a request under this id with another token is one of another call, and refused.
   */
  readonly token: string
  /** The name of the ledger that the calls of one batch share; `token` is the call's place in it. */
  readonly ledger?: string | undefined
  /** Charged for good: no ledger entry is kept, so the charge cannot be settled or given back. */
  readonly forGood?: boolean | undefined
  /** Charged for good as far as the store in memory knows, and yet settled or given back: the journal of an outage keeps the entry. */
  readonly mayComeBack?: boolean | undefined
  readonly call: Pick<Call, 'id' | 'priority' | 'strategy' | 'deadline' | 'maxWaitMs'>
  /** The keys of meters that its pass has claims at, and of the line it stands in, where these were read from its record. */
  readonly held?: readonly string[] | undefined
  /**
   * Takes the place of the strategy of the call and of its rules. waits: where a rule would degrade the call, or ask the user's code, the call waits; other
   * rules decide as they say.
   */
  readonly strategy?: Strategy | 'waits' | undefined
}

/** A request that still carries the complete Call: needed where the call may have to be stored in a line. */
export interface CallRequest extends AdmissionRequest {
  readonly call: Call
  /** The identity under which the call was enqueued; undefined: that of `call` as it is, which degraded mode may have changed. */
  readonly identity?: string | undefined
  /** The cost that the call came with, where `call.cost` has been completed by estimates since. */
  readonly given?: Cost | undefined
  /** Of a call in a worker: the lock of its job. Without it a call neither starts nor goes back to a line: its job is another worker's. */
  readonly lock?: { readonly key: string; readonly token: string } | undefined
  /** The rules at which a strategy of the user's own lets the call start without room. */
  readonly allowed?: readonly string[] | undefined
  /** Of a call whose worker died: when it came. If it has to stand in line again, it has its old place there. */
  readonly arrivedMs?: number | undefined
}

/** A started call that has ended, and its actual cost. */
export interface Settlement {
  readonly request: AdmissionRequest
  readonly actual: ActualCosts
}

const NO_CALL = {}

/** A request about meters without a call, such as that of a limiter by key. A charge of it cannot be settled or given back. */
export function meterRequest({ meters, costs, counted }: ResolvedMeters, id = ''): AdmissionRequest {
  return { id, token: '', forGood: true, call: NO_CALL, meters, costs, counted }
}

/** The number of keys of its own that a call adds to a script call: those of its meters and of their single limits, and its record. */
export function weightOf({ meters }: AdmissionRequest): number {
  return meters.reduce((sum, { keys }) => sum + keys.length, 1)
}

export function bindingOf({ rule, value }: Pick<MeterRef, 'rule' | 'value'>, limit: Pick<CompiledLimit, 'name' | 'unit'>): Binding {
  return { kind: rule.kind, rule: rule.name, limit: limit.name, scopeValue: value, unit: limit.unit }
}

/** The gate of a pause or an upstream block, which has no limit, as what binds a call. */
export function gateBinding({ rule, value }: MeterRef): Binding {
  const limit = { pause: 'paused', upstream: BLOCK_LIMIT, rule: '', degraded: '', limiter: '' }[rule.kind]
  return { kind: rule.kind, rule: rule.name, limit, scopeValue: value, unit: 'none' }
}

/** The state of a limit of a meter, as a decision shows it. */
export function usageOf({ rule, value }: MeterRef, limit: CompiledLimit, { used, claimed, resetMs }: Pick<Usage, 'used' | 'claimed' | 'resetMs'>): Usage {
  const { name, unit, capacity, algorithm, limit: amount } = limit
  const remaining = ALGORITHMS[algorithm].remaining(used + claimed, limit)
  const windowMs = unit === 'concurrency' ? null : limit.windowMs
  return { rule: rule.name, limit: name, scopeValue: value, unit, amount, windowMs, capacity, used, claimed, remaining, resetMs }
}

export function costIn(costs: Costs, unit: CompiledLimit['unit']): number {
  return unit === 'concurrency' ? 1 : costs[unit]
}

/** The place of the block of its agent among the meters of a call, counted from 1; 0 where it has none. */
export function blockPlace({ meters }: ResolvedMeters): number {
  return meters.findLastIndex(({ rule }) => rule.kind === 'upstream') + 1
}

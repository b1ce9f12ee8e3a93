import { createHash } from 'node:crypto'
import { type Answer, DecisionAnswer } from '../admission/answer.js'
import { rejection } from '../admission/rejection.js'
import { type AdmissionRequest, type MeterRef, meterRequest, RuleMeters } from '../admission/request.js'
import { countedUnits, type FindOwn } from '../limits/compiled-limit.js'
import { type LimitSpec, unitOf } from '../limits/limit.js'
import { MAX_AMOUNT, MAX_NAME_LENGTH } from '../model/call.js'
import { type Costs, type CostUnit, NOTHING } from '../model/cost.js'
import { CallInvalid } from '../model/errors.js'
import { compileLimits } from '../policy/compile.js'
import { BARE_RULE, type CompiledRule } from '../policy/compiled-rule.js'
import type { Keys } from '../redis/keys.js'
import type { LedgerNames } from '../store/ledger-names.js'
import type { Admission, Store } from '../store/store.js'
import type { CallMetrics, LimiterCounts } from '../telemetry/call-metrics.js'
import { isAmount } from '../validation/call.js'
import { show } from '../validation/faults.js'

/** Limits by key, without rules and without the queue. */
export interface Limiter<Key = string> {
  /** Charges 1, if there is room. @throws CallInvalid where the key is not valid */
  check(key: Key): Promise<Answer>
  /** Charges a cost in the unit of the limits, if there is room for it; default 1. @throws CallInvalid */
  consume(key: Key, cost?: number): Promise<Answer>
  /** As consume. @throws RateLimitExceeded where there is no room, with `retryAfterMs`; CallInvalid */
  checkOrThrow(key: Key, cost?: number): Promise<Answer>
  /** What consume would answer; charges nothing. @throws CallInvalid */
  peek(key: Key, cost?: number): Promise<Answer>
  /** Forgets what the key has used. @throws CallInvalid */
  reset(key: Key): Promise<void>
}

/** A limiter that can be combined with others: it has one meter for each key. */
export interface Metered {
  /** Its usage is kept under this name. */
  readonly name: string
  meter(key: string): MeterRef
  readonly counted: readonly CostUnit[]
  readonly store: Store
}

const costsOf = new Map<number, Costs>()

/** The same cost in every unit: a limiter charges one number in the unit of its limits. */
function everywhere(cost: number): Costs {
  let costs = costsOf.get(cost)
  if (costs === undefined) {
    costs = { requests: cost, tokens: cost, inputTokens: cost, outputTokens: cost, usd: cost, points: cost, uncachedInputTokens: cost }
    if (costsOf.size > 1000) costsOf.clear()
    costsOf.set(cost, costs)
  }
  return costs
}

export function checkKey(key: unknown): string {
  if (typeof key !== 'string' || key.length === 0 || key.length > MAX_NAME_LENGTH || !key.isWellFormed())
    throw new CallInvalid(`key: must be a string of 1 to ${MAX_NAME_LENGTH} characters (got ${show(key)})`)
  return key
}

export function checkCost(cost: unknown): number {
  if (!isAmount(cost)) throw new CallInvalid(`cost: must be a number from 0 to ${MAX_AMOUNT} (got ${show(cost)})`)
  return cost
}

/** The answer to a decision, or its error. */
export function orThrow(answered: DecisionAnswer): DecisionAnswer {
  if (answered.decision.outcome === 'reject') throw rejection(answered.decision)
  return answered
}

/** What all limiters have in common; they differ in their keys and in the meters of a key. */
abstract class BaseLimiter<Key> implements Limiter<Key> {
  constructor(
    readonly store: Store,
    readonly counted: readonly CostUnit[],
    /** Limits that keep each charge by itself, such as a sliding log, need a name for each. */
    private readonly names: LedgerNames,
    private readonly counts: LimiterCounts,
  ) {}

  check(key: Key): Promise<Answer> {
    return this.consume(key, 1)
  }

  consume(key: Key, cost = 1): Promise<DecisionAnswer> {
    // Not an async function: a store in memory answers at once, and each promise costs as much as the check.
    try {
      const admission = this.store.admit(this.request(key, cost))
      return admission instanceof Promise ? admission.then(({ decision }) => this.answer(decision)) : Promise.resolve(this.answer(admission.decision))
    } catch (error) {
      return Promise.reject(error as Error)
    }
  }

  async checkOrThrow(key: Key, cost = 1): Promise<Answer> {
    return orThrow(await this.consume(key, cost))
  }

  async peek(key: Key, cost = 1): Promise<Answer> {
    return new DecisionAnswer(await this.store.peek(this.request(key, cost)))
  }

  async reset(key: Key): Promise<void> {
    await this.store.reset(this.request(key, 0))
  }

  private answer(decision: Admission['decision']): DecisionAnswer {
    const answer = new DecisionAnswer(decision)
    if (answer.allowed) this.counts.allowed++
    else this.counts.refused++
    return answer
  }

  /** The meters of a key. @throws CallInvalid */
  protected abstract metersOf(key: Key): readonly MeterRef[]

  private request(key: Key, cost: number): AdmissionRequest {
    const meters = this.metersOf(key)
    const costs = cost === 0 ? NOTHING : everywhere(checkCost(cost))
    const id = meters.some(({ rule }) => rule.keyed.length > 0) ? this.names.next() : ''
    return meterRequest({ meters, costs, counted: this.counted }, id)
  }
}

/** The name of a limiter that has none: limiters of different limits have different ones, so they share no usage. */
function defaultName(specs: readonly LimitSpec[]): string {
  const fields = specs.map((spec) =>
    Object.entries(spec)
      .filter(([, value]) => value !== undefined)
      .sort(),
  )
  const [{ per = '', ...first }] = specs as readonly [LimitSpec]
  const unit = unitOf(first)
  const plain = `${unit}:${per}:${first[unit]}`
  // One limit of nothing but an amount and a window is all in its name.
  if (specs.length === 1 && fields[0]?.length === 2) return plain
  return `${plain}:${createHash('sha256').update(JSON.stringify(fields)).digest('hex').slice(0, 12)}`
}

/** A limiter of one or more limits. Its usage is kept under its name: limiters of the same name share it, in all processes. */
export class DirectLimiter extends BaseLimiter<string> implements Metered {
  readonly name: string
  private readonly ruleMeters: RuleMeters

  /** @throws RulesInvalid where two of its limits cannot be told apart */
  constructor(specs: readonly LimitSpec[], findOwn: FindOwn, store: Store, keys: Keys, names: LedgerNames, metrics: CallMetrics) {
    // No rule can have such a name, and no limiter's own name the ':' of one that has none.
    const name = `~~${specs[0]?.name ?? defaultName(specs)}`
    const rule: CompiledRule = {
      ...BARE_RULE,
      ...compileLimits(name, specs, findOwn),
      kind: 'limiter',
      name,
      priority: 0,
      strategy: 'hard',
      scopeValue: () => null,
    }
    super(store, countedUnits(rule.limits), names, metrics.limiter(name.slice(2)))
    this.name = name
    this.ruleMeters = new RuleMeters(rule, keys)
  }

  meter(key: string): MeterRef {
    return this.ruleMeters.meter(checkKey(key))
  }

  protected metersOf(key: string): readonly MeterRef[] {
    return [this.meter(key)]
  }
}

/** Several limiters as one: each must have room, or none is charged. */
export class CombinedLimiter extends BaseLimiter<string | readonly string[]> {
  /** Whether some share a name: they must not be given the same key then. */
  private readonly namesakes: boolean

  constructor(
    private readonly limiters: readonly Metered[],
    store: Store,
    names: LedgerNames,
    metrics: CallMetrics,
  ) {
    super(store, [...new Set(limiters.flatMap(({ counted }) => counted))], names, metrics.limiter(limiters.map(({ name }) => name.slice(2)).join('+')))
    this.namesakes = new Set(limiters.map(({ name }) => name)).size < limiters.length
  }

  /** @param key one for all limiters, or one for each in their order */
  protected metersOf(key: string | readonly string[]): readonly MeterRef[] {
    if (typeof key !== 'string' && (!Array.isArray(key) || key.length !== this.limiters.length))
      throw new CallInvalid(`key: must be a string, or ${this.limiters.length} strings, one for each limiter (got ${show(key)})`)
    const meters = this.limiters.map((limiter, index) => limiter.meter(typeof key === 'string' ? key : (key[index] as string)))
    const seen = new Set<string>()
    for (const { rule, value } of this.namesakes ? meters : []) {
      const meter = `${rule.name}/${value}`
      if (seen.has(meter))
        throw new CallInvalid(
          `key: two of the limiters are called ${rule.name.slice(2)}, and would count the call twice; give them names, or each its own key (got ${show(key)})`,
        )
      seen.add(meter)
    }
    return meters
  }
}

import { type Answer, DecisionAnswer } from '../admission/answer.js'
import { RuleMeters } from '../admission/meter-ref.js'
import { rejection } from '../admission/rejection.js'
import { type AdmissionRequest, type MeterRef, meterRequest } from '../admission/request.js'
import { countedUnits } from '../limits/compiled-limit.js'
import { type LimitSpec, limitName } from '../limits/limit.js'
import { MAX_AMOUNT, MAX_NAME_LENGTH } from '../model/call.js'
import { type Costs, type CostUnit, NOTHING } from '../model/cost.js'
import type { RejectDecision, RunDecision } from '../model/decision.js'
import { CallInvalid } from '../model/errors.js'
import { compileLimits } from '../policy/compile.js'
import type { CompiledRule } from '../policy/compiled-rule.js'
import { NO_OPTIONS } from '../policy/compiled-rule.js'
import type { Keys } from '../redis/keys.js'
import type { LedgerNames } from '../store/ledger-names.js'
import type { MaybePromise, Store } from '../store/store.js'
import { isAmount } from '../validation/call.js'
import { show } from '../validation/faults.js'

/** Limits by key, asked directly: no rules, no queue. */
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

/** One limiter of several that are asked together: its meters for a key. */
export interface Metered {
  /** Under which its usage is kept. */
  readonly name: string
  part(key: string): MeterRef
  readonly counted: readonly CostUnit[]
  readonly store: Store
}

const costsOf = new Map<number, Costs>()

/** The same cost in every unit: limiters know nothing else of a call. */
function everywhere(cost: number): Costs {
  let costs = costsOf.get(cost)
  if (costs === undefined) {
    costs = { requests: cost, tokens: cost, inputTokens: cost, outputTokens: cost, usd: cost, points: cost }
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

/** What limiters ask of the store, whatever their keys look like. */
abstract class BaseLimiter<Key> implements Limiter<Key> {
  /** @param names name charges, where each is remembered by itself */
  constructor(
    readonly store: Store,
    readonly counted: readonly CostUnit[],
    private readonly names: LedgerNames,
  ) {}

  check(key: Key): Promise<Answer> {
    return this.consume(key, 1)
  }

  consume(key: Key, cost = 1): Promise<DecisionAnswer> {
    // Not an async function: a store in memory answers at once, and each promise costs as much as the check.
    try {
      const admission = this.store.admit(this.ask(key, cost))
      return admission instanceof Promise
        ? admission.then(({ decision }) => new DecisionAnswer(decision))
        : Promise.resolve(new DecisionAnswer(admission.decision))
    } catch (error) {
      return Promise.reject(error as Error)
    }
  }

  async checkOrThrow(key: Key, cost = 1): Promise<Answer> {
    return orThrow(await this.consume(key, cost))
  }

  async peek(key: Key, cost = 1): Promise<Answer> {
    const decided: MaybePromise<RunDecision | RejectDecision> = this.store.peek(this.ask(key, cost))
    return new DecisionAnswer(await decided)
  }

  async reset(key: Key): Promise<void> {
    await this.store.reset(this.ask(key, 0))
  }

  /** The meters of a key. @throws CallInvalid */
  protected abstract parts(key: Key): readonly MeterRef[]

  private ask(key: Key, cost: number): AdmissionRequest {
    const parts = this.parts(key)
    const costs = cost === 0 ? NOTHING : everywhere(checkCost(cost))
    const id = parts.some(({ rule }) => rule.keyed.length > 0) ? this.names.next() : ''
    return meterRequest({ meters: parts, costs, counted: this.counted }, id)
  }
}

/** A limiter of one or more limits. Its usage is kept under its name: limiters of the same name, in whatever process, share it. */
export class DirectLimiter extends BaseLimiter<string> implements Metered {
  readonly name: string
  private readonly meters: RuleMeters

  /** @throws RulesInvalid where two of its limits cannot be told apart */
  constructor(specs: readonly LimitSpec[], store: Store, keys: Keys, names: LedgerNames) {
    // No rule can have such a name, and no limiter's own name the ':' of one that has none.
    const name = `~~${specs[0]?.name ?? limitName(specs[0] ?? {}).replaceAll('/', ':')}`
    const rule: CompiledRule = {
      kind: 'limiter',
      name,
      priority: 0,
      strategy: 'hard',
      degraded: null,
      ...compileLimits(name, specs),
      options: NO_OPTIONS,
      guards: false,
      scopeValue: () => null,
    }
    super(store, countedUnits(rule.limits), names)
    this.name = name
    this.meters = new RuleMeters(rule, keys)
  }

  part(key: string): MeterRef {
    return this.meters.meter(checkKey(key))
  }

  protected parts(key: string): readonly MeterRef[] {
    return [this.part(key)]
  }
}

/** Several limiters as one: each must have room, or none is charged. */
export class CombinedLimiter extends BaseLimiter<string | readonly string[]> {
  private readonly limiters: readonly Metered[]
  /** Whether some share a name: then they must not be asked for the same key. */
  private readonly namesakes: boolean

  constructor(limiters: readonly Metered[], store: Store, names: LedgerNames) {
    super(store, [...new Set(limiters.flatMap(({ counted }) => counted))], names)
    this.limiters = limiters
    this.namesakes = new Set(limiters.map(({ name }) => name)).size < limiters.length
  }

  protected parts(key: string | readonly string[]): readonly MeterRef[] {
    const parts = this.partsOf(key)
    if (this.namesakes) {
      const seen = new Set<string>()
      for (const { rule, value } of parts) {
        if (seen.has(`${rule.name}/${value}`))
          throw new CallInvalid(
            `key: two of the limiters are called ${rule.name.slice(2)}, and would count the call twice; give them names, or each its own key (got ${show(key)})`,
          )
        seen.add(`${rule.name}/${value}`)
      }
    }
    return parts
  }

  /** One key for all of them, or one for each in their order. */
  private partsOf(key: string | readonly string[]): readonly MeterRef[] {
    if (typeof key === 'string') return this.limiters.map((limiter) => limiter.part(key))
    if (!Array.isArray(key) || key.length !== this.limiters.length)
      throw new CallInvalid(`key: must be a string, or ${this.limiters.length} strings, one for each limiter (got ${show(key)})`)
    return this.limiters.map((limiter, index) => limiter.part(key[index] as string))
  }
}

import { type Capacity, readCapacity } from '../administration/capacity.js'
import type { Resolver } from '../admission/resolver.js'
import { MAX_AMOUNT } from '../model/call.js'
import { COST_UNITS, type CostUnit } from '../model/cost.js'
import { CallInvalid } from '../model/errors.js'
import type { ObservedLimits, UpstreamName, UpstreamStatus } from '../model/upstream.js'
import type { Store } from '../store/store.js'
import { isAmount, validateCall } from '../validation/call.js'
import { faultMessage, show, valueAt } from '../validation/faults.js'
import { type AnnounceInput, type UpstreamChange, type UpstreamState, type UpstreamTracker, upstreamState } from './tracker.js'

/** A limit of a rule that guards an agent: one that counts by agent, endpoint and model alone. */
export interface ConfiguredLimit {
  readonly rule: string
  readonly limit: string
  readonly unit: CostUnit
  /** The amount per window, in `unit`. */
  readonly amount: number
  readonly windowMs: number
}

/** The state of an agent, endpoint and model, the limits that the rules give it, and those that it reported. */
export interface UpstreamStats extends UpstreamState {
  readonly configured: readonly ConfiguredLimit[]
  /** The limits that the agent reported, by unit; empty where it reported none. */
  readonly observed: ObservedLimits
  /** When it reported them, by the store's clock. */
  readonly observedAt: Date
}

/** The capacities of resources, set at run time, and the states of agents, learned from their answers (`tollgate.capacity`). */
export class Capacities {
  constructor(
    private readonly resolver: Resolver,
    private readonly store: Store,
    private readonly tracker: UpstreamTracker,
  ) {}

  /** The capacity of a resource, and what is left of it; null where none was set. @throws CallInvalid */
  get(resource: string): Promise<Capacity | null>
  /** The state of an agent, endpoint and model now. @throws CallInvalid */
  get(upstream: UpstreamName): Promise<UpstreamState>
  async get(of: string | UpstreamName): Promise<Capacity | null | UpstreamState> {
    return typeof of === 'object' && of !== null ? this.tracker.get(checkName(of)) : readCapacity(of, this.resolver, this.store)
  }

  /**
   * Reports what the application knows of an agent. With `retryAfterMs`, or without it and
   * `limits`: the agent refused a call, so no process calls that agent, endpoint and model for
   * that time, and its capacity is cut. With `limits` alone: they are noted. Returns the state
   * after it. @throws CallInvalid; nothing is changed then
   */
  async announce(input: AnnounceInput): Promise<UpstreamState> {
    return this.tracker.announce(checkAnnounce(input))
  }

  /**
   * Calls a function after every report about an agent, in any process. The steps of recovery
   * follow from the time and are not reported. Returns a function that ends it.
   */
  on(event: 'change', listener: (change: UpstreamChange) => void): () => void {
    if (event !== 'change') throw new CallInvalid(`event: must be change (got ${show(event)})`)
    if (typeof listener !== 'function') throw new CallInvalid(`listener: must be a function (got ${show(listener)})`)
    return this.tracker.on(listener)
  }

  /** Every agent, endpoint and model that was reported on within a day, up to a thousand. */
  async stats(): Promise<UpstreamStats[]> {
    const observations = await this.store.observed()
    const known = await this.store.upstreamStatus(observations.map(({ name }) => this.resolver.blockOf(name)))
    return observations.map(({ name, limits, atMs }, index) => ({
      ...upstreamState(name, known[index] as UpstreamStatus),
      configured: this.configured(name),
      observed: limits,
      observedAt: new Date(Math.floor(atMs)),
    }))
  }

  private configured(name: UpstreamName): ConfiguredLimit[] {
    return this.resolver
      .guardsOf(name)
      .flatMap((rule) =>
        rule.limits.flatMap(({ name: limit, unit, limit: amount, windowMs }) =>
          unit === 'concurrency' ? [] : [{ rule: rule.name, limit, unit, amount, windowMs }],
        ),
      )
  }
}

function checkName(input: UpstreamName): UpstreamName {
  const { agent, endpoint, model, ...more } = input
  const [unknown] = Object.keys(more)
  if (unknown !== undefined) throw new CallInvalid(faultMessage(unknown, 'is not a known field', show(valueAt(more, [unknown]))))
  const call = validateCall({ agent, ...(endpoint === undefined ? {} : { endpoint }), ...(model === undefined ? {} : { model }) })
  return { agent: call.agent, endpoint: call.endpoint, model: call.model }
}

function checkAnnounce(input: AnnounceInput): AnnounceInput {
  if (input === null || typeof input !== 'object') throw new CallInvalid(`announcement: must be an object (got ${show(input)})`)
  const { retryAfterMs, limits, ...name } = input
  if (retryAfterMs !== undefined && !isAmount(retryAfterMs))
    throw new CallInvalid(`retryAfterMs: must be a number from 0 to ${MAX_AMOUNT} (got ${show(retryAfterMs)})`)
  return { ...checkName(name), retryAfterMs, limits: limits === undefined ? undefined : checkObservedLimits(limits) }
}

function checkObservedLimits(limits: ObservedLimits): ObservedLimits {
  if (limits === null || typeof limits !== 'object') throw new CallInvalid(`limits: must be an object (got ${show(limits)})`)
  const entries = Object.entries(limits).map(([unit, given]) => {
    if (!(COST_UNITS as readonly string[]).includes(unit)) throw new CallInvalid(`limits.${unit}: is not one of ${COST_UNITS.join(', ')}`)
    if (given === null || typeof given !== 'object') throw new CallInvalid(`limits.${unit}: must be an object (got ${show(given)})`)
    const { limit, remaining = null, resetMs = null, windowMs = null } = given
    for (const [field, value] of Object.entries({ limit, remaining, resetMs, windowMs })) {
      const fits = value === null ? field !== 'limit' : isAmount(value) && (value > 0 || (field !== 'limit' && field !== 'windowMs'))
      if (!fits) throw new CallInvalid(`limits.${unit}.${field}: must be a number up to ${MAX_AMOUNT}, above 0 for limit and windowMs (got ${show(value)})`)
    }
    return [unit, { limit, remaining, resetMs, windowMs }]
  })
  return Object.fromEntries(entries) as ObservedLimits
}

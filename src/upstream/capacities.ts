import { z } from 'zod'
import { type Capacity, readCapacity } from '../administration/capacity.js'
import type { Resolver } from '../admission/resolver.js'
import { MAX_AMOUNT } from '../model/call.js'
import { COST_UNITS, type CostUnit } from '../model/cost.js'
import { CallInvalid } from '../model/errors.js'
import type { ObservedLimits, UpstreamName, UpstreamStatus } from '../model/upstream.js'
import type { Store } from '../store/store.js'
import { amount, callName, endpointName } from '../validation/call.js'
import { checkInput, faultMessage, show } from '../validation/faults.js'
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

const positive = z.number().positive().max(MAX_AMOUNT)
const optional = amount.nullable().default(null)
const observedSchema = z.object({ limit: positive, remaining: optional, resetMs: optional, windowMs: positive.nullable().default(null) })
const nameSchema = z.strictObject({ agent: callName, endpoint: endpointName.optional(), model: callName.optional() })
export const announceSchema = nameSchema.extend({ retryAfterMs: amount.optional(), limits: z.partialRecord(z.enum(COST_UNITS), observedSchema).optional() })

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
    return typeof of === 'object' && of !== null
      ? this.tracker.get(this.resolver.withEndpoint(checkInput(nameSchema, of, { whole: 'upstream' }, CallInvalid)))
      : readCapacity(of, this.resolver, this.store)
  }

  /**
   * Reports what the application knows of an agent. With `retryAfterMs`, or without it and `limits`: the agent refused a call, so no process calls
   * that agent, endpoint and model for that time, and its capacity is cut. With `limits` alone: they are noted. Returns the state after it.
   * @throws CallInvalid; nothing is changed then
   */
  async announce(input: AnnounceInput): Promise<UpstreamState> {
    return this.tracker.announce(this.resolver.withEndpoint(checkInput(announceSchema, input, { whole: 'announcement' }, CallInvalid)))
  }

  /**
   * Calls a function after every report about an agent, in any process. The steps of recovery
   * follow from the time and are not reported. Returns a function that ends it.
   */
  on(event: 'change', listener: (change: UpstreamChange) => void): () => void {
    if (event !== 'change') throw new CallInvalid(faultMessage('event', 'must be change', show(event)))
    if (typeof listener !== 'function') throw new CallInvalid(faultMessage('listener', 'must be a function', show(listener)))
    return this.tracker.on(listener)
  }

  /** The agents, endpoints and models that were reported on, up to a thousand; Redis forgets them a day after the last report. */
  async stats(): Promise<UpstreamStats[]> {
    const observations = await this.store.observations()
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

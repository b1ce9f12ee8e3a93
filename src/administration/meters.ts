import { z } from 'zod'
import type { AdmissionRequest } from '../admission/request.js'
import type { Resolver } from '../admission/resolver.js'
import type { Usage } from '../model/decision.js'
import type { UpstreamName } from '../model/upstream.js'
import { escapePart } from '../policy/match.js'
import type { Store } from '../store/store.js'
import { callName, endpointName } from '../validation/call.js'
import { actorOf, checkRequest, plainName } from '../validation/requests.js'
import { unknownRule } from './change.js'
import type { By } from './rules.js'

/** The meter of a rule for one scope value. */
export interface MeterName {
  rule: string
  /** A user, an org, …; the parts of several scopes as a list, or as decisions show them (`scopeValue`). Default '*', that of the scope global. */
  value?: string | readonly string[] | undefined
}

const LONGEST_VALUE = 2048

export const meterSchema = z.strictObject({
  rule: callName,
  value: z
    .union([z.string().min(1).max(LONGEST_VALUE), z.array(callName).min(1).max(10)], 'must be a scope value, or the list of its parts')
    .refine((value) => [value].flat().every((part) => part.isWellFormed()), 'must be well-formed unicode')
    .default('*'),
})
export const resetSchema = meterSchema.extend({ by: plainName.optional() })
export const liftSchema = z.strictObject({ agent: callName, endpoint: endpointName.optional(), model: callName.optional(), by: plainName.optional() })

/** A scope value as keys have it. One that is given as text may be in that form already, as decisions show it. */
function scopeValue(value: string | readonly string[]): string {
  if (typeof value !== 'string') return value.map(escapePart).join('|')
  return /^[A-Za-z0-9._@/|%*-]*$/.test(value) ? value : escapePart(value)
}

/** What limits have counted (`tollgate.meters`): to be read, and to be forgotten. A reset and its entry in the audit are one script. */
export class Meters {
  constructor(
    private readonly parts: {
      readonly resolver: Resolver
      readonly store: Store
      readonly actor: string
      /** Tells this process, the others, and calls that wait for the block alone. */
      readonly lifted: (name: UpstreamName) => Promise<void>
    },
  ) {}

  /** The usage of the limits of a rule for one scope value. @throws RequestInvalid, RULE_UNKNOWN */
  async get(meter: MeterName): Promise<readonly Usage[]> {
    return (await this.parts.store.peek(this.requestOf(checkRequest(meterSchema, meter, 'meter')))).usage
  }

  /**
   * Forgets what the limits of a rule have counted for one scope value, and wakes calls that have room by that. Calls that run go on, and hold none of
   * its slots. @throws RequestInvalid, RULE_UNKNOWN
   */
  async reset(meter: MeterName & By): Promise<void> {
    const { by, ...named } = checkRequest(resetSchema, meter, 'meter')
    await this.parts.store.reset(this.requestOf(named), actorOf(by, this.parts.actor))
  }

  /** Lifts the block of an agent, endpoint and model, and forgets what its refusals have cut. Returns whether anything was cut. @throws RequestInvalid */
  async lift(upstream: UpstreamName & By): Promise<boolean> {
    const { resolver, store, actor, lifted } = this.parts
    const { by, ...given } = checkRequest(liftSchema, upstream, 'upstream')
    const name = resolver.withEndpoint(given)
    const block = resolver.blockOf(name)
    const [status] = await store.upstreamStatus([block])
    const isCut = status !== undefined && (status.blockedUntilMs > status.atMs || status.factor < 1 || status.canary)
    if (isCut) await store.reset(block, actorOf(by, actor))
    await lifted(name)
    return isCut
  }

  private requestOf({ rule, value }: { rule: string; value: string | readonly string[] }): AdmissionRequest {
    const request = this.parts.resolver.metersOf(rule, scopeValue(value))
    if (request === undefined) throw unknownRule(rule)
    return request
  }
}

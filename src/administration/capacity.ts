import { meterRequest } from '../admission/request.js'
import type { Resolver } from '../admission/resolver.js'
import { isPeriod } from '../limits/limit.js'
import { MAX_AMOUNT } from '../model/call.js'
import { NOTHING } from '../model/cost.js'
import { CallInvalid } from '../model/errors.js'
import type { RuleSpec } from '../policy/rule.js'
import type { Store } from '../store/store.js'
import { isAmount } from '../validation/call.js'
import { show } from '../validation/faults.js'

/** The capacity of a resource, and what is left of it. */
export interface Capacity {
  /** Requests per window, as set by `tollgate.setCapacity`. */
  readonly limit: number
  /** The window: a unit of time or a duration, as set. */
  readonly per: string
  /** The number of requests that could start now. */
  readonly available: number
  /** The calls that have started and not ended. A call whose process died counts for up to five minutes more. */
  readonly inFlight: number
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,54}$/
const LEASE = '5m'

/** The name of the rule that holds the capacity of a resource. @throws CallInvalid */
export function capacityRuleName(name: string): string {
  if (typeof name !== 'string' || !NAME.test(name))
    throw new CallInvalid(`resource: must be 1 to 55 letters, digits, . _ or -, and begin with a letter or digit (got ${show(name)})`)
  return `resource.${name}`
}

/** The rule of a resource. A resource is an agent whose capacity is set at run time, as a rule beside the declared ones. @throws CallInvalid */
export function capacityRule(name: string, limit: number, per: string): RuleSpec {
  if (!isAmount(limit)) throw new CallInvalid(`limit: must be a number from 0 to ${MAX_AMOUNT}, or null for none (got ${show(limit)})`)
  if (typeof per !== 'string' || !isPeriod(per))
    throw new CallInvalid(
      `per: must be second, minute, hour, day, week, month, quarter, year or a duration such as 10s, 15m, of at most 366d (got ${show(per)})`,
    )
  return {
    name: capacityRuleName(name),
    scope: 'agent',
    match: { agents: [name] },
    limits: [
      { name: 'capacity', requests: limit, per },
      // Counts the running calls; its limit is never reached.
      { name: 'in-flight', concurrency: MAX_AMOUNT, lease: LEASE },
    ],
  }
}

/** The capacity of a resource; null where none was set. */
export async function readCapacity(name: string, resolver: Resolver, store: Store): Promise<Capacity | null> {
  const rule = capacityRuleName(name)
  const spec = resolver.rules.policy.added.find((one) => one.name === rule)
  const per = spec?.limits[0]?.per
  const limit = spec?.limits[0]?.requests
  if (per === undefined || limit === undefined) return null
  const resolved = resolver.resolve({ agent: name }, NOTHING)
  const meters = resolved.meters.filter((meter) => meter.rule.name === rule)
  const { usage } = await store.peek(meterRequest({ ...resolved, meters }))
  const of = (name: string) => usage.find((one) => one.limit === name)
  return { limit, per, available: Math.floor(of('capacity')?.remaining ?? 0), inFlight: of('in-flight')?.used ?? 0 }
}

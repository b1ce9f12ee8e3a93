import type { CallRequest, MeterRef } from '../admission/request.js'
import { NO_BOUND } from '../limits/algorithm.js'
import type { CompiledLimit } from '../limits/compiled-limit.js'
import { limitFields } from '../policy/compile.js'

function unbounded(limit: CompiledLimit): CompiledLimit {
  const { algorithm, own, capacity } = limit
  // A leaky bucket has room only while it is empty; its state is that of a token bucket.
  const of = algorithm === 'leaky_bucket' ? { algorithm: 'token_bucket' as const } : own === undefined ? {} : { own: { ...own, capacity } }
  return { ...limit, ...of, capacity: NO_BOUND }
}

/**
 * A call that a strategy of the user's own lets start without room at some rules. Their limits have no bound for it, and it is charged at their
 * meters all the same. A bucket forgets what it was charged above its capacity when the next call looks at it under its own limits; windows and slots
 * count it. The job of the call names these rules: a worker starts the call as the front door let it in, without asking the strategy again.
 */
export function allowedBy(request: CallRequest, rules: readonly string[]): CallRequest {
  const allowed = [...(request.allowed ?? []), ...rules]
  const strategyOf = ({ rule }: MeterRef) => request.call.strategy ?? rule.strategy
  const meters = request.meters.map((meter): MeterRef => {
    const { rule, value, keys, line } = meter
    if (!allowed.includes(rule.name) || !strategyOf(meter).startsWith('custom:')) return meter
    return { rule: { ...rule, ...limitFields(rule.limits.map(unbounded), rule.active) }, value, keys, line }
  })
  return { ...request, meters, allowed }
}

/** The rules that the options of a job name. */
export function allowedIn(opts: object): readonly string[] {
  const { allowed } = opts as { allowed?: unknown }
  return Array.isArray(allowed) ? allowed.filter((one) => typeof one === 'string') : []
}

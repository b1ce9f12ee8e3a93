import type { CostUnit } from '../model/cost.js'
import type { ExpiredDecision, RejectDecision } from '../model/decision.js'
import { RateLimitExceeded, StoreUnavailable, TollgateError } from '../model/errors.js'
import { outputBound } from '../pricing/payload.js'
import type { CallRequest, ResolvedMeters } from './request.js'

/** The name of a limit in the audit, without the prefix of limiters by key. */
export function limitOf(rule: string, limit: string): string {
  return `${rule.replace(/^~~/, '')}/${limit}`
}

/** What the audit says of a reset of meters: what that is called, of which, and the names of the limiters; '' where anything else is reset. */
export function resetOf({ meters }: Pick<ResolvedMeters, 'meters'>) {
  const { kind } = meters[0]?.rule ?? { kind: 'rule' }
  const what = kind === 'limiter' ? 'limiter.reset' : kind === 'upstream' ? 'upstream.lifted' : 'meter.reset'
  const subject = meters.map(({ rule, value }) => (rule.kind === 'upstream' ? value : limitOf(rule.name, value))).join(', ')
  const limiters = meters.every(({ rule }) => rule.kind === 'limiter') ? meters.map(({ rule }) => rule.name.replace(/^~~/, '')).join(', ') : ''
  return { what, subject, limiters } as const
}

/** What a message says of a cost that is too big. A limiter by key is asked for a number, without a call. */
interface Refused extends Pick<CallRequest, 'call' | 'costs' | 'given'> {
  /** Whether the app has an estimate of its own. */
  readonly ownEstimate: boolean
}

/** @param of what was refused, for the message of a cost that is too big */
export function rejection(decision: RejectDecision | ExpiredDecision, of?: Refused): TollgateError {
  return decision.outcome === 'expired' ? new TollgateError('CALL_EXPIRED', 'the deadline of the call passed before it could start') : refusal(decision, of)
}

/** How the cost of a call in a unit came about. */
function sourceOf(unit: CostUnit, amount: number, { call, given = call.cost ?? {}, ownEstimate }: Refused): string {
  if (given[unit] !== undefined) return 'as its cost says'
  if (unit === 'requests' || unit === 'points') return ownEstimate ? 'by the option estimate' : 'by default'
  const answer = Math.min(amount, outputBound(call))
  const ofPayload = unit === 'tokens' ? `: ${amount - answer} to read, ${answer} at most to answer` : ''
  return `estimated ${ownEstimate ? 'by the option estimate' : unit === 'usd' ? 'by its tokens and the price of its model' : `from its payload${ofPayload}`}`
}

function tooBig({ binding: { rule, limit, scopeValue, unit }, usage }: RejectDecision, of: Refused | undefined): string {
  const known = usage.find((one) => one.rule === rule && one.limit === limit && one.scopeValue === scopeValue)
  const bound = known === undefined ? 'this limit can ever hold' : `the ${known.capacity} that this limit can ever hold`
  if (of === undefined || unit === 'none' || unit === 'concurrency') return `it costs more than ${bound}`
  const amount = of.costs[unit]
  return `the call costs ${amount} ${unit} (${sourceOf(unit, amount, of)}), more than ${bound}`
}

function refusal(refused: RejectDecision, of: Refused | undefined): RateLimitExceeded | StoreUnavailable {
  const { reason, strategy, binding, waiting = 0, ...decision } = refused
  const { rule, limit, scopeValue } = binding
  const where = `rule ${rule}, limit ${limit}, ${scopeValue}`
  const etaMs = Math.ceil(decision.etaMs ?? 0)
  const retryAfterMs = decision.retryAfterMs === null ? null : Math.ceil(decision.retryAfterMs)
  switch (reason) {
    case 'too_big':
      return new RateLimitExceeded('COST_TOO_BIG', `${tooBig(refused, of)} (${where})`, { rule, limit })
    case 'closed':
      return new RateLimitExceeded('LIMIT_CLOSED', `this limit is 0, which means closed (${where})`, { rule, limit })
    case 'paused':
      return new RateLimitExceeded('PAUSED', `such calls are paused until they are resumed (${where})`, { rule, limit })
    case 'unavailable':
      return new StoreUnavailable(`Redis is away, and it is not known whether there is room (${where})`, { retryAfterMs: retryAfterMs ?? 0 })
    case 'late':
      return new RateLimitExceeded('DEADLINE_MISSED', `the call would start in ${etaMs} ms, after its deadline (${where})`, { rule, limit, etaMs })
    case 'line_full':
      return new RateLimitExceeded('LINE_FULL', `${waiting} calls wait already, as many as may (${where})`, { rule, limit, waiting })
    case 'limited': {
      const after = retryAfterMs === null ? 'no time is known' : `room in ${retryAfterMs} ms`
      return new RateLimitExceeded('RATE_LIMIT_EXCEEDED', `no room (${where})${strategy === 'hard' ? '' : `; ${after}`}`, { rule, limit, retryAfterMs })
    }
    default:
      return reason satisfies never
  }
}

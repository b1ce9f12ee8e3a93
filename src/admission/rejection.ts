import type { ExpiredDecision, RejectDecision } from '../model/decision.js'
import { RateLimitExceeded, StoreUnavailable, TollgateError } from '../model/errors.js'
import type { MeterRef } from './request.js'

/** The name of a limit in the audit, without the prefix of limiters by key. */
export function limitOf(rule: string, limit: string): string {
  return `${rule.replace(/^~~/, '')}/${limit}`
}

/** The name of a meter in the audit. */
export function meterOf({ rule, value }: MeterRef): string {
  return limitOf(rule.name, value)
}

export function rejection(decision: RejectDecision | ExpiredDecision): TollgateError {
  return decision.outcome === 'expired' ? new TollgateError('CALL_EXPIRED', 'the deadline of the call passed before it could start') : refusal(decision)
}

function refusal({ reason, strategy, binding, waiting = 0, ...decision }: RejectDecision): RateLimitExceeded | StoreUnavailable {
  const { rule, limit, scopeValue } = binding
  const where = `rule ${rule}, limit ${limit}, ${scopeValue}`
  const etaMs = Math.ceil(decision.etaMs ?? 0)
  const retryAfterMs = decision.retryAfterMs === null ? null : Math.ceil(decision.retryAfterMs)
  switch (reason) {
    case 'too_big':
      return new RateLimitExceeded('COST_TOO_BIG', `the call costs more than this limit can ever hold (${where})`, { rule, limit })
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

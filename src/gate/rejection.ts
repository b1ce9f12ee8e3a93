import type { RejectDecision } from '../decision.js'
import { RateLimitExceeded, StoreUnavailable } from '../errors.js'

/** The error of a refused call. */
export function rejection(decision: RejectDecision): RateLimitExceeded | StoreUnavailable {
  const { rule, limit, scopeValue } = decision.binding
  const where = `rule ${rule}, limit ${limit}, ${scopeValue}`
  switch (decision.reason) {
    case 'too_big':
      return new RateLimitExceeded('COST_TOO_BIG', `the call costs more than this limit can ever hold (${where})`, rule, limit, null)
    case 'closed':
      return new RateLimitExceeded('LIMIT_CLOSED', `this limit is 0, which means closed (${where})`, rule, limit, null)
    case 'unavailable':
      return new StoreUnavailable(`Redis is away, and nobody knows whether there is room (${where})`, { retryAfterMs: Math.ceil(decision.retryAfterMs ?? 0) })
    case 'limited': {
      const after = decision.retryAfterMs === null ? 'no time is known' : `room in ${Math.ceil(decision.retryAfterMs)} ms`
      return new RateLimitExceeded(
        'RATE_LIMIT_EXCEEDED',
        `no room (${where}); ${after}`,
        rule,
        limit,
        decision.retryAfterMs === null ? null : Math.ceil(decision.retryAfterMs),
      )
    }
  }
}

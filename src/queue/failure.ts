import { UnrecoverableError } from 'bullmq'
import type { RejectDecision } from '../decision.js'
import { ERRORS, type ErrorCode, RateLimitExceeded, TollgateError } from '../errors.js'

/** The error of a refused call. */
export function rejection(decision: RejectDecision): RateLimitExceeded {
  const { rule, limit, scopeValue } = decision.binding
  const where = `rule ${rule}, limit ${limit}, ${scopeValue}`
  switch (decision.reason) {
    case 'too_big':
      return new RateLimitExceeded('COST_TOO_BIG', `the call costs more than this limit can ever hold (${where})`, rule, limit, null)
    case 'closed':
      return new RateLimitExceeded('LIMIT_CLOSED', `this limit is 0, which means closed (${where})`, rule, limit, null)
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

/** An error as BullMQ keeps it: the code goes along in the text, and no attempt is made again. */
export function finalFailure(error: TollgateError): UnrecoverableError {
  return new UnrecoverableError(`${error.code}: ${error.message}`)
}

/** An error of ours as BullMQ keeps it: with its code, and tried again where that can help. */
export function failureOf(error: TollgateError): Error {
  return error.retryable ? new Error(`${error.code}: ${error.message}`, { cause: error }) : finalFailure(error)
}

/** The error of a job that BullMQ says has failed. */
export function callFailure(failedReason: string): TollgateError {
  const [, code, message] = /^([A-Z_]+): (.*)$/s.exec(failedReason) ?? []
  if (code !== undefined && Object.hasOwn(ERRORS, code)) return new TollgateError(code as ErrorCode, message ?? failedReason)
  return new TollgateError('CALL_FAILED', failedReason)
}

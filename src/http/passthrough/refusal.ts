import type { AgentApi } from '../../agents/inbound.js'
import { problemOf, retryAfterOf, retryAfterSeconds, tollgateError } from '../../middleware/problem.js'
import { RateLimitExceeded, type TollgateError } from '../../model/errors.js'

/** Clients of OpenAI and Anthropic do not wait longer than this before they try again: they would come at once instead. */
const LONGEST_RETRY_MS = 60_000

const OPENAI_TYPES: Readonly<Record<number, string>> = {
  400: 'invalid_request_error',
  401: 'invalid_request_error',
  403: 'permission_error',
  404: 'invalid_request_error',
  413: 'invalid_request_error',
  415: 'invalid_request_error',
  422: 'invalid_request_error',
  429: 'rate_limit_exceeded',
}
const ANTHROPIC_TYPES: Readonly<Record<number, string>> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  413: 'request_too_large',
  415: 'invalid_request_error',
  422: 'invalid_request_error',
  429: 'rate_limit_error',
  503: 'overloaded_error',
}

/** A refusal as the client of an agent gets it: in the shape of the agent's own errors. */
export interface ClientRefusal {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  /** The same as the last event of a stream that has begun. */
  readonly event: string
}

/** The wait of a call that ended, or would end, too late is a quota's doing: its client is told as by the agent. */
function statusOf(error: TollgateError): number {
  return error.code === 'DEADLINE_MISSED' || error.code === 'CALL_EXPIRED' ? 429 : problemOf(error).status
}

/** @param id of the call, for `explain` */
export function clientRefusal(api: AgentApi, given: unknown, id: string | undefined): ClientRefusal {
  const error = tollgateError(given)
  const problem = problemOf(error, id)
  const status = statusOf(error)
  const retryAfterMs = error instanceof RateLimitExceeded && error.code === 'DEADLINE_MISSED' ? (error.etaMs ?? undefined) : retryAfterOf(error)
  const again = status === 429 || status === 503 ? retryAfterMs !== undefined && retryAfterMs <= LONGEST_RETRY_MS : error.retryable
  const message = `${problem.detail}${id === undefined ? '' : ` (call ${id})`}`
  const body =
    api === 'anthropic'
      ? { type: 'error', error: { type: ANTHROPIC_TYPES[status] ?? 'api_error', message }, request_id: id ?? null, tollgate: problem }
      : {
          error: {
            message,
            type: OPENAI_TYPES[status] ?? 'server_error',
            param: null,
            code: status === 429 ? 'rate_limit_exceeded' : error.code.toLowerCase(),
          },
          tollgate: problem,
        }
  const text = JSON.stringify(body)
  return {
    status,
    headers: {
      'content-type': 'application/json',
      'x-should-retry': String(again),
      ...(retryAfterMs === undefined ? {} : { 'retry-after': retryAfterSeconds(retryAfterMs), 'retry-after-ms': String(Math.ceil(retryAfterMs)) }),
    },
    body: text,
    event: api === 'anthropic' ? `event: error\ndata: ${text}\n\n` : `data: ${text}\n\n`,
  }
}

import { RateLimitExceeded, RulesInvalid, StoreUnavailable, TollgateError } from '../model/errors.js'
import { BLOCK_NAME } from '../model/upstream.js'

const IANA = 'https://iana.org/assignments/http-problem-types#'

/** An error in the form of RFC 9457 (`application/problem+json`). */
export interface Problem {
  readonly type: string
  readonly title: string
  readonly status: number
  readonly detail: string
  readonly code: string
  readonly retryable: boolean
  readonly todo: string
  readonly retryAfterMs?: number | undefined
  readonly 'violated-policies'?: readonly string[] | undefined
  readonly faults?: readonly string[] | undefined
  /** The id of the call, for `explain`. */
  readonly id?: string | undefined
}

/** Whether the refusal comes from the block of an agent, not from a quota. */
function isBlock(error: TollgateError): boolean {
  return error.code === 'UPSTREAM_LIMITED' || (error instanceof RateLimitExceeded && error.rule === BLOCK_NAME)
}

function typeOf(error: TollgateError): string {
  if (isBlock(error)) return `${IANA}temporary-reduced-capacity`
  return error.code === 'RATE_LIMIT_EXCEEDED' || error.code === 'LINE_FULL' ? `${IANA}quota-exceeded` : `urn:tollgate:error:${error.code}`
}

/** After how many ms the client may try again; undefined where it is not known, or would not help. */
export function retryAfterOf(error: TollgateError): number | undefined {
  if (error instanceof RateLimitExceeded) return error.retryAfterMs ?? undefined
  if (error instanceof StoreUnavailable) return error.retryAfterMs
  return error.code === 'SERVER_BUSY' ? 1000 : undefined
}

/** The error of the catalogue that stands for any error; those that are not Tollgate's own stay in the log. */
export function tollgateError(error: unknown): TollgateError {
  if (error instanceof TollgateError) return error
  const { code, statusCode, message } = (error ?? {}) as { code?: unknown; statusCode?: unknown; message?: unknown }
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') return new TollgateError('BODY_TOO_LARGE', 'the body is larger than this server takes')
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') return new TollgateError('MEDIA_TYPE_UNSUPPORTED', 'the body must be application/json')
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) return new TollgateError('REQUEST_INVALID', `request: ${String(message)}`)
  return new TollgateError('SERVER_FAILED', 'the server met an error that it does not know; its log has it', { cause: error })
}

export function problemOf(given: unknown, id?: string): Problem {
  const error = tollgateError(given)
  const violated = error instanceof RateLimitExceeded && !error.rule.startsWith('~') ? [`${error.rule}/${error.limit}`] : undefined
  return {
    type: typeOf(error),
    title: error.code.toLowerCase().replaceAll('_', ' '),
    status: isBlock(error) ? 503 : error.status,
    detail: error.message,
    code: error.code,
    retryable: error.retryable,
    todo: error.todo,
    retryAfterMs: retryAfterOf(error),
    'violated-policies': violated,
    faults: error instanceof RulesInvalid ? error.faults : undefined,
    id,
  }
}

/** `Retry-After` in whole seconds, never earlier than the time itself. */
export function retryAfterSeconds(ms: number): string {
  return String(Math.max(1, Math.ceil(ms / 1000)))
}

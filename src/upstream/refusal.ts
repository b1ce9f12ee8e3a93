import { TollgateError, UpstreamLimited } from '../model/errors.js'
import type { HeadersLike } from '../model/upstream.js'

/** The statuses of a refused call: 429 Too Many Requests, 503 Service Unavailable, and Anthropic's 529 Overloaded. */
export const REFUSED_STATUSES: ReadonlySet<unknown> = new Set([429, 503, 529])

/**
 * The refusal in an error of a handler; undefined where the error is something else. A refusal is an UpstreamLimited, or any error with one of
 * `REFUSED_STATUSES` as its `status`, such as those of OpenAI's and Anthropic's clients, whose `headers` contain the Retry-After.
 */
export function upstreamLimited(error: unknown): UpstreamLimited | undefined {
  if (error instanceof UpstreamLimited) return error
  if (error === null || typeof error !== 'object' || !('status' in error) || !REFUSED_STATUSES.has(error.status)) return undefined
  if (error instanceof TollgateError) return undefined
  const retryAfterMs = 'retryAfterMs' in error && typeof error.retryAfterMs === 'number' && error.retryAfterMs >= 0 ? error.retryAfterMs : undefined
  const headers = 'headers' in error && error.headers !== null && typeof error.headers === 'object' ? (error.headers as HeadersLike) : undefined
  return new UpstreamLimited({ retryAfterMs, headers, cause: error })
}

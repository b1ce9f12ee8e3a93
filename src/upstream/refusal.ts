import { TollgateError, UpstreamLimited } from '../model/errors.js'
import type { HeadersLike } from '../model/upstream.js'

/** Too many requests, unavailable, and Anthropic's overloaded. */
const LIMITED: ReadonlySet<unknown> = new Set([429, 503, 529])

/** An error that says the agent had no room: ours, or any with such a status, as those of OpenAI's and Anthropic's clients, whose `headers` say for how long. */
export function upstreamLimited(error: unknown): UpstreamLimited | undefined {
  if (error instanceof UpstreamLimited) return error
  if (error === null || typeof error !== 'object' || !('status' in error) || !LIMITED.has(error.status)) return undefined
  if (error instanceof TollgateError) return undefined
  const retryAfterMs = 'retryAfterMs' in error && typeof error.retryAfterMs === 'number' && error.retryAfterMs >= 0 ? error.retryAfterMs : undefined
  const headers = 'headers' in error && error.headers !== null && typeof error.headers === 'object' ? (error.headers as HeadersLike) : undefined
  return new UpstreamLimited({ retryAfterMs, headers, cause: error })
}

import { TollgateError } from '../model/errors.js'

/** The codes of the errors of a Redis that is up, and cannot take what it is asked for. */
const REFUSALS = 'READONLY|OOM|LOADING|MASTERDOWN|NOREPLICAS|MISCONF|BUSY|CLUSTERDOWN|TRYAGAIN|MOVED|ASK|UNBLOCKED|EXECABORT|NOAUTH|WRONGPASS'
/** Before Redis 7 the code of what a script met stands behind a dash within its text. */
const REFUSED = new RegExp(`^(?:${REFUSALS})\\b|-(?:${REFUSALS})\\b|Script killed by user|Script attempted to access a non local key`)
/** What ioredis says of commands that got no answer. It gives these no code. */
const UNANSWERED = /Connection is closed|Command (timed out|aborted)|Reached the max retries per request|Stream isn't writeable|Socket (closed|timeout)/
const NETWORK_CODE = /^(ECONNREFUSED|ECONNRESET|ECONNABORTED|EPIPE|ETIMEDOUT|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|EHOSTDOWN|ENETUNREACH)$/

/** Redis did not answer in time, or is not asked since it did not answer others. */
export class StoreSilent extends Error {
  override readonly name = 'StoreSilent'
}

/**
 * Whether something failed because of the Redis behind it: it is away, slow, or up and refuses
 * (read-only, out of memory, loading, a password that was changed, keys on their way to another server of a cluster). The request can be repeated. Errors of calls, rules and scripts are none of these.
 */
export function isStoreError(error: unknown): error is Error {
  if (!(error instanceof Error)) return false
  if (error instanceof StoreSilent || ('code' in error && NETWORK_CODE.test(String(error.code)))) return true
  return REFUSED.test(error.message) || UNANSWERED.test(error.message)
}

/** Whether Redis has no memory left: then it still takes what gives room back. */
export function isOutOfMemory(error: unknown): boolean {
  return error instanceof Error && /^OOM\b|-OOM\b/.test(error.message)
}

/** Whether an error says that Redis is away or refuses, in the words of the connection or in ours: the same request may pass later. */
export function isUnavailable(error: unknown): boolean {
  return isStoreError(error) || (error instanceof TollgateError && (error.code === 'REDIS_UNAVAILABLE' || error.code === 'STORE_UNAVAILABLE'))
}

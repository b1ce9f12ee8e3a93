/** How a Redis answers that is up, and cannot take what it is asked for: the codes its errors begin with. */
const REFUSALS = ['READONLY', 'OOM', 'LOADING', 'MASTERDOWN', 'NOREPLICAS', 'MISCONF', 'BUSY', 'CLUSTERDOWN', 'TRYAGAIN'] as const
/** Before Redis 7 the code of what a script met stands behind a dash within its text. */
const REFUSED = new RegExp(`^(?:${REFUSALS.join('|')})\\b|-(?:${REFUSALS.join('|')})\\b`)
const KILLED = /Script killed by user/
/** What ioredis says of commands that got no answer. It gives these no code. */
const UNANSWERED = [
  'Connection is closed',
  'Command timed out',
  'Command aborted',
  'Reached the max retries per request',
  "Stream isn't writeable",
  'Socket closed',
  'Socket timeout',
]
const OF_THE_NETWORK = [
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EHOSTDOWN',
  'ECONNABORTED',
] as const

/** Redis did not answer in time, or is not asked since it did not answer others. */
export class StoreSilent extends Error {
  override readonly name = 'StoreSilent'
}

/**
 * Whether something failed because of the Redis behind it: it is away, slow, or up and refuses
 * (read-only, out of memory, loading). What was asked for can be asked again, and no one who
 * asked is to blame. Errors of calls, rules and scripts are none of these.
 */
export function isStoreError(error: unknown): error is Error {
  if (!(error instanceof Error)) return false
  if (error instanceof StoreSilent || ('code' in error && (OF_THE_NETWORK as readonly unknown[]).includes(error.code))) return true
  const { message } = error
  return REFUSED.test(message) || KILLED.test(message) || UNANSWERED.some((text) => message.includes(text))
}

/** Whether Redis has no memory left: then it still takes what gives room back. */
export function isOutOfMemory(error: unknown): boolean {
  return error instanceof Error && /^OOM\b|-OOM\b/.test(error.message)
}

import { RATE_LIMIT_ERROR } from 'bullmq'
import type { Redis } from 'ioredis'
import { TollgateError, UpstreamLimited } from '../model/errors.js'
import { withoutCredentials } from '../model/secrets.js'
import { show } from '../validation/faults.js'

/** Errors by which code of a job says that BullMQ has put the job elsewhere already: it will run again, and this run used no attempt. */
const PUT_ELSEWHERE: ReadonlySet<unknown> = new Set(['DelayedError', 'WaitingError', 'WaitingChildrenError'])
/** The longest message and stack of an error that are kept with a job, in characters. */
const LONGEST_MESSAGE = 2000
const LONGEST_STACK = 10_000

function textOf(thrown: unknown, field: 'message' | 'stack' | 'name'): string | undefined {
  try {
    const text = (thrown as Error)[field]
    return typeof text === 'string' ? text : undefined
  } catch {
    // Nothing, or a getter that throws.
    return undefined
  }
}

export function isPutElsewhere(thrown: unknown): boolean {
  return PUT_ELSEWHERE.has(textOf(thrown, 'name'))
}

/** Whether a handler means BullMQ's own limit: as an agent that answered 429. */
export function isRateLimited(thrown: unknown): boolean {
  return textOf(thrown, 'message') === RATE_LIMIT_ERROR
}

/** How long the limit holds that `queue.rateLimit` has set; as after any 429 where it has set none. @param key of BullMQ's limiter */
export async function rateLimitOf(redis: Redis, key: string): Promise<UpstreamLimited> {
  const leftMs = await redis.pttl(key).catch(() => -1)
  return new UpstreamLimited({ retryAfterMs: leftMs > 0 ? leftMs : undefined })
}

/**
 * What code of a user threw, as an error of bounded size of which BullMQ can read message and stack: a job whose error it cannot read would never fail,
 * and be run again and again.
 */
export function readableError(thrown: unknown): Error {
  const [message, stack, name] = [textOf(thrown, 'message'), textOf(thrown, 'stack'), textOf(thrown, 'name')]
  // BullMQ would put the job back at once, again and again. (That of a handler is a refusal, and does not come here.)
  if (message === RATE_LIMIT_ERROR) return new Error('a RateLimitError was thrown, which only a handler may', { cause: thrown })
  const kept = message === undefined ? `${show(thrown)} was thrown, which is no error` : withoutCredentials(message, LONGEST_MESSAGE)
  const keptStack = stack === undefined ? undefined : withoutCredentials(stack, LONGEST_STACK)
  if (thrown instanceof Error && kept === message && keptStack === stack && stack !== undefined) return thrown
  const error = new Error(kept, thrown instanceof Error ? {} : { cause: thrown })
  // BullMQ knows its own errors by their names.
  if (name !== undefined && name !== 'Error') Object.defineProperty(error, 'name', { value: name })
  if (keptStack !== undefined) error.stack = keptStack
  return error
}

/** Why a result cannot be kept with its job; undefined where it can. Its call has run: it fails for good, and a further attempt would be paid again. */
export function faultOfResult(result: unknown, mostBytes: number): TollgateError | undefined {
  if (result === undefined) return undefined
  let json: string | undefined
  let why = `it is a ${typeof result}`
  try {
    json = JSON.stringify(result)
  } catch (error) {
    why = withoutCredentials((textOf(error, 'message') ?? 'it throws').split('\n')[0] as string, LONGEST_MESSAGE)
  }
  if (json === undefined) return new TollgateError('CALL_FAILED', `the handler returned what JSON cannot hold (${why})`)
  const bytes = Buffer.byteLength(json)
  return bytes > mostBytes ? new TollgateError('CALL_FAILED', `the result has ${bytes} bytes as JSON, and may have ${mostBytes} (maxResultBytes)`) : undefined
}

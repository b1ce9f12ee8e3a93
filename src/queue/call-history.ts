import type { Redis } from 'ioredis'
import type { CallEvent, CallHistory } from '../history/answers.js'
import { readEvents, readLimitsAtStart } from '../history/event.js'
import { TollgateError } from '../model/errors.js'
import type { Keys } from '../redis/keys.js'
import { EVENTS_FIELD, LIMITS_FIELD } from '../store/redis/protocol.js'
import { callFailure, recordId } from './stored-call.js'

/** What a call went through, from its job. @throws CALL_UNKNOWN */
export async function readCallHistory(redis: Redis, keys: Keys, queue: string, jobId: string): Promise<CallHistory> {
  const fields = ['data', 'timestamp', 'finishedOn', 'failedReason', 'atm', EVENTS_FIELD, LIMITS_FIELD]
  const [data = null, timestamp = null, finishedOn = null, failedReason = null, attemptsMade = null, noted = null, limits = null] = await redis.hmget(
    keys.job(recordId(queue, jobId)),
    ...fields,
  )
  if (timestamp === null) throw new TollgateError('CALL_UNKNOWN', `no call ${jobId} in queue ${queue}: it never was, or it finished too long ago`)
  const { events: kept, leftOut } = readEvents(noted)
  const ends = finishedOn === null ? [] : [endEvent(Number(finishedOn), failedReason)]
  // A failure is noted by its worker, too, where that lives.
  const inner =
    ends[0]?.what === 'done' ? kept : kept.filter(({ what, atMs }) => ends.length === 0 || what !== ends[0]?.what || atMs + 1000 < Number(finishedOn))
  const events = [{ atMs: Number(timestamp), what: 'enqueued' as const }, ...[...inner].sort((one, other) => one.atMs - other.atMs), ...ends]
  const actual = events.findLast(({ what }) => what === 'settled')?.cost ?? null
  return {
    id: jobId,
    events,
    leftOut,
    limits: readLimitsAtStart(limits),
    attempts: Number(attemptsMade ?? 0),
    returns: events.filter(({ what }) => what === 'returned').length,
    estimate: estimateOf(data),
    actual,
  }
}

function endEvent(atMs: number, failedReason: string | null): CallEvent {
  if (failedReason === null) return { atMs, what: 'done' }
  const { code, message } = callFailure(failedReason)
  return { atMs, what: code === 'CALL_EXPIRED' ? 'expired' : 'failed', why: `${code}: ${message}`.slice(0, 200) }
}

function estimateOf(data: string | null): Record<string, number> {
  try {
    const cost = (JSON.parse(data ?? '{}') as { cost?: Record<string, unknown> }).cost ?? {}
    return Object.fromEntries(Object.entries(cost).filter((one): one is [string, number] => typeof one[1] === 'number'))
  } catch {
    return {}
  }
}

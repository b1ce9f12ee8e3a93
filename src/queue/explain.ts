import type { Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import { gateBinding } from '../admission/request.js'
import type { Binding, Decision, Usage } from '../model/decision.js'
import { TollgateError } from '../model/errors.js'
import type { ScriptClient } from '../store/redis/script-client.js'
import { callFailure, readRecord, recordId, restoredRequest } from './stored-call.js'

/** Where a call stands, and why. */
export interface Explanation {
  readonly id: string
  /** waiting: in line. woken: has room, on its way to a worker. running, done, failed. expired: its deadline passed. queued: in BullMQ, to be decided on when a worker takes it. */
  readonly state: 'waiting' | 'woken' | 'running' | 'done' | 'failed' | 'expired' | 'queued'
  /** The rule and limit it waits for. */
  readonly binding: Binding | null
  /** How many calls are before it in its line. */
  readonly position: number | null
  /** Estimated ms until it starts; null where it does not wait, or the wait cannot be estimated. */
  readonly etaMs: number | null
  /** Why it failed. */
  readonly reason: string | null
  /** Every limit that covers it, as it stands now. */
  readonly usage: readonly Usage[]
}

function endedState(failedReason: string | null): Explanation['state'] {
  if (failedReason === null) return 'done'
  return callFailure(failedReason).code === 'CALL_EXPIRED' ? 'expired' : 'failed'
}

/** @throws CALL_UNKNOWN */
export async function explain(scriptClient: ScriptClient, redis: Redis, queue: Queue, jobId: string): Promise<Explanation> {
  const id = recordId(queue.name, jobId)
  const key = queue.toKey(jobId)
  const [record, [finishedOn = null, failedReason = null, data = null], locked] = await Promise.all([
    redis.get(scriptClient.keys.call(id)),
    redis.hmget(key, 'finishedOn', 'failedReason', 'data'),
    redis.exists(`${key}:lock`),
  ])
  const stored = readRecord(record)
  if (stored === null && data === null)
    throw new TollgateError('CALL_UNKNOWN', `no call ${jobId} in queue ${queue.name}: it never was, or it finished too long ago`)
  const nothing = { id: jobId, binding: null, position: null, etaMs: null, reason: null, usage: [] }
  if (stored === null || stored.state === 'started') {
    if (finishedOn !== null) return { ...nothing, state: endedState(failedReason), reason: failedReason }
    return { ...nothing, state: locked === 1 ? 'running' : 'queued' }
  }
  switch (stored.state) {
    case 'passed':
      return { ...nothing, state: 'woken', usage: (await peek(scriptClient, id, record))?.usage ?? [] }
    case 'waiting': {
      if (scriptClient.keys.isOwnLine(stored.line)) return { ...nothing, state: 'waiting', ...(await nextTry(scriptClient, redis, id, record, stored.line)) }
      const [decision, rank, length] = await Promise.all([peek(scriptClient, id, record), redis.zrank(stored.line, id), redis.zcard(stored.line)])
      const limited = decision?.outcome === 'reject' ? decision : null
      const at = scriptClient.keys.parseLine(stored.line)
      const binding = limited?.binding ?? (at === null ? null : lineBinding(scriptClient, at))
      // The peek estimates the wait at the end of the line; a call further ahead waits its share of that.
      const share = rank === null || length === 0 ? 1 : (rank + 1) / (length + 1)
      const etaMs = limited === null ? 0 : limited.retryAfterMs === null ? null : limited.retryAfterMs * share
      return { ...nothing, state: 'waiting', binding, position: rank, etaMs, usage: decision?.usage ?? [] }
    }
    default:
      throw new Error(`unknown state ${stored.state satisfies never}`)
  }
}

async function peek(scriptClient: ScriptClient, id: string, record: string | null): Promise<Decision | undefined> {
  const [decision] = await scriptClient.peek([restoredRequest(scriptClient, id, record)])
  return decision
}

/** Of a call that its agent refused, and that waits alone until it is tried again. */
async function nextTry(scriptClient: ScriptClient, redis: Redis, id: string, record: string | null, line: string) {
  const [decision, due] = await Promise.all([peek(scriptClient, id, record), redis.zscore(scriptClient.keys.lines, line)])
  const { meters } = restoredRequest(scriptClient, id, record)
  const block = meters.find(({ rule }) => rule.kind === 'upstream')
  const etaMs = decision === undefined || due === null ? null : Math.max(0, Number(due) - decision.atMs)
  return { binding: block === undefined ? null : gateBinding(block), position: 0, etaMs, usage: decision?.usage ?? [] }
}

/** The binding of a call that stands in a line while there is room: it is about to be woken. */
function lineBinding(scriptClient: ScriptClient, { rule, value }: { rule: string; value: string }): Binding {
  const found = scriptClient.resolver.rules.rules.find(({ name }) => name === rule)
  const limit = found?.limits[0]
  return { kind: found?.kind ?? 'rule', rule, limit: limit?.name ?? 'removed', scopeValue: value, unit: limit?.unit ?? 'none' }
}

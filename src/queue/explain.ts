import type { Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import { gateBinding } from '../admission/request.js'
import type { Binding, RunDecision, Usage, WaitDecision } from '../model/decision.js'
import { TollgateError } from '../model/errors.js'
import { reasonOf, WAITS_FOR_NOTHING, type Waits, waitsFor } from '../model/wait-reason.js'
import type { ScriptClient } from '../store/redis/script-client.js'
import { handledElsewhere } from './foreign-workers.js'
import type { QueueStates } from './queue-states.js'
import { callFailure, parseRecordId, readRecord, recordId, restoredRequest } from './stored-call.js'

/** Where a call stands, and why. */
export interface Explanation extends Waits {
  readonly id: string
  /** waiting: in line. woken: has room, on its way to a worker. running, done, failed. expired: its deadline passed. queued: in BullMQ, to be decided on when a worker takes it. */
  readonly state: 'waiting' | 'woken' | 'running' | 'done' | 'failed' | 'expired' | 'queued'
  /** The rule and limit it waits for. */
  readonly binding: Binding | null
  /** How many calls are before it in its line. */
  readonly position: number | null
  /** Estimated ms until it starts; null where it does not wait, or the wait cannot be estimated. */
  readonly etaMs: number | null
  /** By when it starts at the latest, where `etaMs` is the earliest; null where that is unknown. */
  readonly etaMaxMs: number | null
  /** Why it failed. */
  readonly reason: string | null
  /** Every limit that covers it, as it stands now. */
  readonly usage: readonly Usage[]
  /** What is wrong with how it runs: a worker that is not Tollgate's took it past the gate. */
  readonly warning?: string
}

/** How many calls are decided on in one script call. */
const AT_ONCE = 50

/** What an explanation reads with. */
export interface ExplainParts {
  readonly scriptClient: ScriptClient
  readonly redis: Redis
  readonly queueStates: QueueStates
}

function endedState(failedReason: string | null): Explanation['state'] {
  if (failedReason === null) return 'done'
  return callFailure(failedReason).code === 'CALL_EXPIRED' ? 'expired' : 'failed'
}

/** An explanation of which nothing is known but the state. */
export function bareExplanation(id: string, state: Explanation['state'], reason: string | null = null): Explanation {
  return { id, state, binding: null, position: null, etaMs: null, etaMaxMs: null, ...WAITS_FOR_NOTHING, reason, usage: [] }
}

/** @throws CALL_UNKNOWN */
export async function explain(parts: ExplainParts, queue: Queue, jobId: string): Promise<Explanation> {
  const { scriptClient, redis, queueStates } = parts
  const id = recordId(queue.name, jobId)
  const key = queue.toKey(jobId)
  const [record, [finishedOn = null, failedReason = null, data = null, worker = null], locked, delayed] = await Promise.all([
    redis.get(scriptClient.keys.call(id)),
    redis.hmget(key, 'finishedOn', 'failedReason', 'data', 'pb'),
    redis.exists(`${key}:lock`),
    redis.zscore(queue.toKey('delayed'), jobId),
  ])
  const stored = readRecord(record)
  if (stored === null && data === null)
    throw new TollgateError('CALL_UNKNOWN', `no call ${jobId} in queue ${queue.name}: it never was, or it finished too long ago`)
  const isElsewhere = (finishedOn !== null || locked === 1) && handledElsewhere(worker)
  // A job that went past the gate leaves what was kept for its start.
  if (stored !== null && stored.state !== 'started' && finishedOn === null && !isElsewhere) {
    const [explanation] = await explainStored(parts, [{ id, record: record as string }])
    return explanation as Explanation
  }
  const passedBy = isElsewhere ? { warning: 'a worker that is not of Tollgate took it past the gate' } : {}
  if (finishedOn !== null) return { ...bareExplanation(jobId, endedState(failedReason), failedReason), ...passedBy }
  if (locked === 1) return { ...bareExplanation(jobId, 'running'), ...passedBy }
  return { ...bareExplanation(jobId, 'queued'), ...waitsFor(delayed === null ? await queueStates.reason(queue.name) : 'DELAYED') }
}

/** A call that is in line or was woken, and its record. */
export interface StoredEntry {
  readonly id: string
  readonly record: string
}

/** Explains calls that are in line or were woken: some round trips, and a script call for 50 of them. */
export async function explainStored(parts: ExplainParts, entries: readonly StoredEntry[]): Promise<Explanation[]> {
  const explained: Explanation[] = []
  for (let from = 0; from < entries.length; from += AT_ONCE) explained.push(...(await explainSome(parts, entries.slice(from, from + AT_ONCE))))
  return explained
}

async function explainSome({ scriptClient, queueStates }: ExplainParts, entries: readonly StoredEntry[]): Promise<Explanation[]> {
  const { keys } = scriptClient
  const calls = entries.map(({ id, record }) => ({ id, stored: readRecord(record), request: restoredRequest(scriptClient, id, record) }))
  const decisions = await scriptClient.explain(
    calls.map(({ request }) => request),
    calls.map(({ stored }) => stored?.line ?? ''),
  )
  return Promise.all(
    calls.map(async ({ id, stored, request }, at): Promise<Explanation> => {
      const decision = decisions[at] as RunDecision | WaitDecision
      const { queue, jobId } = parseRecordId(id)
      const known = { ...bareExplanation(jobId, 'waiting'), usage: decision.usage }
      if (decision.outcome === 'run') {
        // One that is slowed down has a job that is delayed to its slot.
        const slowed = (stored?.slotMs ?? 0) > decision.atMs
        return { ...known, state: 'woken', ...waitsFor(slowed ? 'RATE' : await queueStates.reason(queue)) }
      }
      const line = stored?.line ?? ''
      const { etaMs, etaMaxMs, binding, position } = decision
      if (keys.isOwnLine(line)) {
        // Its agent refused it, and it waits alone until it is tried again.
        const block = request.meters.find(({ rule }) => rule.kind === 'upstream')
        return { ...known, binding: block === undefined ? null : gateBinding(block), position, etaMs, ...waitsFor('UPSTREAM') }
      }
      if (binding !== null) return { ...known, binding, position, etaMs, etaMaxMs, ...waitsFor(decision.waitsFor) }
      if (line === keys.queueLine(queue)) return { ...known, position, ...waitsFor((await queueStates.reason(queue)) ?? 'WORKERS_BUSY') }
      const ahead = lineBinding(scriptClient, line)
      const reason = ahead.binding === null ? null : reasonOf(ahead.binding, ahead.windowMs)
      return { ...known, binding: ahead.binding, position, etaMs: etaMs ?? 0, etaMaxMs, ...waitsFor(reason) }
    }),
  )
}

/** Of a call that stands in a line while there is room: it is about to be woken. */
function lineBinding(scriptClient: ScriptClient, line: string): { readonly binding: Binding | null; readonly windowMs: number | null | undefined } {
  const at = scriptClient.keys.parseLine(line)
  if (at === null) return { binding: null, windowMs: null }
  const found = scriptClient.resolver.rules.rules.find(({ name }) => name === at.rule)
  const limit = found?.limits[0]
  const binding: Binding = {
    kind: found?.kind ?? 'rule',
    rule: at.rule,
    limit: limit?.name ?? 'removed',
    scopeValue: at.value,
    unit: limit?.unit ?? 'none',
  }
  return { binding, windowMs: limit?.windowMs }
}

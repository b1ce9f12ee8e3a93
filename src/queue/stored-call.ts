import { type Job, type JobsOptions, UnrecoverableError } from 'bullmq'
import { identityOf } from '../admission/identity.js'
import type { CallRequest } from '../admission/request.js'
import { type Call, MAX_NAME_LENGTH } from '../model/call.js'
import { COST_UNITS, type Cost, type Costs, NOTHING } from '../model/cost.js'
import type { RejectDecision } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import { ERRORS, type ErrorCode, TollgateError } from '../model/errors.js'
import type { ScriptClient } from '../store/redis/script-client.js'
import type { Held } from '../store/redis/scripts.js'
import type { TraceCarrier } from '../telemetry/tracing.js'
import { CALL_FIELDS, validateCall } from '../validation/call.js'
import { allowedBy, allowedIn } from './allowed-call.js'

// A call on its way is stored twice: as a BullMQ job, and as a record of ours in Redis. This file reads and writes both forms.

/** The id of a job's record. Job ids are unique within their queue, records within the namespace. */
export function recordId(queue: string, jobId: string): string {
  return `${queue}/${jobId}`
}

export function parseRecordId(id: string): { queue: string; jobId: string } {
  const slash = id.indexOf('/')
  return { queue: id.slice(0, slash), jobId: id.slice(slash + 1) }
}

/** The options of a job that this program adds. */
export interface CallJobOptions extends JobsOptions {
  /** When its call came, by Redis' clock: after the death of its worker the call has its old place. */
  readonly arrivedMs: number
  /** The identity of its call as it was enqueued: in degraded mode the call itself has another model. */
  readonly identity: string
  /** The rules at which a strategy lets the call start without room. */
  readonly allowed?: readonly string[]
  /** The trace of its enqueue, where an OpenTelemetry SDK is registered there. */
  readonly trace?: TraceCarrier
}

/** When the call of a job came, where a worker that had it died: by the clock of its producer, where that was BullMQ's own. */
function arrivalOf({ opts, stalledCounter, timestamp }: Pick<Job, 'opts' | 'stalledCounter' | 'timestamp'>): number | undefined {
  return stalledCounter === 0 ? undefined : (keptArrival(opts) ?? timestamp)
}

/** When the call of a job came, by Redis' clock; undefined for jobs that Tollgate has not added. */
export function keptArrival(opts: object): number | undefined {
  const { arrivedMs } = opts as Partial<CallJobOptions>
  return typeof arrivedMs === 'number' && Number.isFinite(arrivedMs) ? arrivedMs : undefined
}

/** A record; `lua/lib/record.lua` describes its forms. */
interface StoredCall {
  readonly state: 'waiting' | 'passed' | 'started'
  /** The key of the line a waiting call stands in. */
  readonly line: string
  readonly call: Call | null
  /** Whether it waits where its rules would degrade it or ask the user's code: see `AdmissionRequest.strategy`. */
  readonly waits: boolean
  /** The keys of the meters that the call has claims at. */
  readonly claimedAt: readonly string[]
  /** From when on a woken call may start, by Redis' clock; 0 of others. */
  readonly slotMs: number
  /** Of the call, as it was enqueued; undefined where it has started. */
  readonly identity: string | undefined
}

export function readRecord(record: string | null): StoredCall | null {
  if (record === null || record === '') return null
  if (record.startsWith('S')) return { state: 'started', line: '', call: null, waits: false, claimedAt: [], slotMs: 0, identity: undefined }
  // JSON has no line break of its own.
  const [head = '', stored = '', claims = ''] = record.split('\n')
  const { is: identity, waits = false, ...call } = JSON.parse(stored) as Call & { is?: string; waits?: boolean }
  const [, ...claimed] = claims === '' ? [] : (JSON.parse(claims) as [endsMs: number, ...claimed: [key: string][]])
  const kept = { call, waits, claimedAt: claimed.map(([key]) => key), identity }
  if (!record.startsWith('P')) return { state: 'waiting', line: head.split(' ').slice(4).join(' '), slotMs: 0, ...kept }
  return { state: 'passed', line: '', slotMs: Number(head.split(' ')[4]), ...kept }
}

/** The keys of what a call holds that has not started: the meters of its claims, and its line. */
export function heldBy(record: string | null): readonly string[] {
  const stored = readRecord(record)
  return stored === null ? [] : stored.state === 'waiting' ? [stored.line, ...stored.claimedAt] : stored.claimedAt
}

/** The request of a call under the rules in force now. */
export function callRequest(scriptClient: ScriptClient, id: string, token: string, call: Call, costs: Costs): CallRequest {
  return { id, token, call, ...scriptClient.resolver.resolve(call, costs) }
}

/** The request of a call that has a record, under the rules in force now; one without meters where the record is gone. */
export function restoredRequest(scriptClient: ScriptClient, id: string, record: string | null): CallRequest {
  const stored = readRecord(record)
  if (stored === null || stored.call === null) return { id, token: '', call: { agent: '' }, meters: [], costs: NOTHING, counted: [] }
  const request = callRequest(scriptClient, id, '', stored.call, storedCosts(stored.call))
  return { ...request, held: stored.claimedAt, identity: stored.identity, strategy: stored.waits ? 'waits' : undefined }
}

/** The costs that were known when the call got in line. A unit that no rule counted then costs nothing until a worker estimates it. */
function storedCosts({ cost = {} }: Call): Costs {
  return {
    ...NOTHING,
    requests: cost.requests ?? 1,
    points: cost.points ?? 1,
    ...Object.fromEntries(COST_UNITS.flatMap((unit) => (cost[unit] === undefined ? [] : [[unit, cost[unit]]]))),
  }
}

/** The trace that the options of a job name. Any producer may have written them. */
export function keptTrace(opts: object): TraceCarrier | undefined {
  const { trace } = opts as Partial<CallJobOptions>
  return typeof trace === 'object' && trace !== null && typeof trace.traceparent === 'string' ? trace : undefined
}

/** The call with its estimate, which goes along in its job, so that its worker does not estimate again. */
export function withEstimate(call: Call, costs: Costs): Call {
  const cost: Cost = { ...call.cost }
  for (const unit of COST_UNITS) if (costs[unit] > 0) cost[unit] = costs[unit]
  return { ...call, cost }
}

/** How often a record is read anew that changes between its look and the release: each time another process has moved the call. */
const MOST_LOOKS = 20

/** @param release is given each record that is read @returns what it answers once the record has stayed as it was read; '-' where it never does */
async function releasedAsRead(
  scriptClient: ScriptClient,
  id: string,
  release: (record: string | null) => Promise<Held | undefined>,
): Promise<Held | undefined> {
  for (let look = 0; look < MOST_LOOKS; look++) {
    const held = await release(await scriptClient.recordOf(id))
    if (held !== 'A') return held
  }
  return '-'
}

/**
 * Releases what a call holds that has not started: its place in line, or its pass. Another call that has its id by now keeps what it holds.
 * @returns what was released; undefined where nothing had to be, '-' where nothing was: it has started or left since, or its job is not the caller's
 */
export function leave(scriptClient: ScriptClient, request: CallRequest): Promise<Held | undefined> {
  return releasedAsRead(scriptClient, request.id, async (record) => {
    const stored = readRecord(record)
    if (stored === null || stored.state === 'started') return undefined
    return scriptClient.release({ ...request, token: '', ledger: undefined, held: stored.claimedAt }, stored.line, request.identity ?? identityOf(request.call))
  })
}

/** The same of whichever call has the record of an id. @returns also 'R' where it has started */
export function releaseStored(scriptClient: ScriptClient, id: string): Promise<Held | undefined> {
  return releasedAsRead(scriptClient, id, async (record) => {
    const stored = readRecord(record)
    return stored?.state === 'started' ? 'R' : scriptClient.release(restoredRequest(scriptClient, id, record), stored?.line ?? '')
  })
}

/** What says who the call of a job is. */
export type JobIdentity = Pick<Job, 'name' | 'data' | 'opts'>

/** The identity that the options of a job keep; undefined for jobs that Tollgate has not added. */
export function keptIdentity(opts: object): string | undefined {
  const { identity } = opts as Partial<CallJobOptions>
  return typeof identity === 'string' ? identity : undefined
}

/** Whether a job is that of a call. A job that Tollgate has not added is read as a worker without `callOf` reads it. */
export function isJobOf({ name, data, opts }: JobIdentity, call: Call, identity = identityOf(call)): boolean {
  const kept = keptIdentity(opts)
  if (kept !== undefined) return kept === identity
  try {
    const found = callOfJob(name, data)
    // A worker has put it into degraded mode, with the model of that mode.
    return identityOf(found.degraded === true ? { ...found, model: call.model } : found) === identity
  } catch {
    return false
  }
}

/**
 * How long the BullMQ job of a waiting call is delayed: as long as it may have to wait, and a margin.
 * The dispatcher wakes the call long before; the delay is for the case that no dispatcher lives.
 * @param mostMs null where it is not known how long the wait may be: the delay is long then, since each return of the job costs a worker one start script
 */
export function delayMs(mostMs: number | null): number {
  const wait = mostMs ?? DEFAULTS.unknownWaitMs
  const margin = Math.max(DEFAULTS.returnMarginMs, wait * DEFAULTS.returnMarginShare)
  return Math.ceil(Math.min(DEFAULTS.longestDelayMs, wait + margin))
}

/** The form in which BullMQ keeps an error: the code stands in the text. BullMQ tries the call again only where that can help. */
export function jobFailure(error: TollgateError): Error {
  return error.retryable ? new Error(`${error.code}: ${error.message}`, { cause: error }) : finalFailure(error)
}

/** The same for an error after which BullMQ must not try the call again. */
export function finalFailure(error: TollgateError): UnrecoverableError {
  return Object.assign(new UnrecoverableError(`${error.code}: ${error.message}`), { cause: error })
}

/** The error in the `failedReason` of a job. */
export function callFailure(failedReason: string): TollgateError {
  const [, code, message] = /^([A-Z_]+): (.*)$/s.exec(failedReason) ?? []
  if (code !== undefined && Object.hasOwn(ERRORS, code)) return new TollgateError(code as ErrorCode, message ?? failedReason)
  return new TollgateError('CALL_FAILED', failedReason)
}

/** The fields of a job's data that are fields of its call: all but the id, which is that of the job, and the payload. */
const FIELDS = CALL_FIELDS.filter((field) => field !== 'id' && field !== 'payload')

/**
 * The call in a job, which any BullMQ producer may have added. Data that has an `agent` is read as a call (its other fields go to the payload); other
 * data is the payload of a call to an agent with the job's name.
 * @throws CallInvalid naming field, value and bound
 */
export function callOfJob(name: string, data: unknown): Call {
  if (data === null || typeof data !== 'object' || !('agent' in data)) {
    // Cut to length without cutting a surrogate pair in two.
    const agent = name.length > MAX_NAME_LENGTH ? name.slice(0, MAX_NAME_LENGTH).replace(/[\ud800-\udbff]$/, '') : name
    return validateCall({ agent, payload: data })
  }
  const given = data as Record<string, unknown>
  const fields = Object.fromEntries(FIELDS.flatMap((field) => (given[field] === undefined ? [] : [[field, given[field]]])))
  return validateCall({ ...fields, payload: 'payload' in data ? data.payload : data })
}

/** The part of a BullMQ job that an attempt needs. A held call that has no job yet brings its own: see `HeldCalls`. */
export type AttemptJob = Pick<
  Job,
  'id' | 'name' | 'data' | 'queueName' | 'timestamp' | 'attemptsMade' | 'opts' | 'stalledCounter' | 'moveToDelayed' | 'promote' | 'updateData'
> & {
  /** Whether its data is a call that this process has checked and estimated. */
  readonly checked?: boolean
  /** See `Starting.refused`; a job that was accepted waits. */
  readonly refusedHere?: (decision: RejectDecision) => void
}

function callIn(job: AttemptJob, callOf: ((job: Job) => Call) | undefined): Call {
  if (job.checked === true) return job.data as Call
  return callOf === undefined ? callOfJob(job.name, job.data) : validateCall(callOf(job as unknown as Job))
}

/**
 * The request of the call in a job that a worker has.
 * @param token the lock of the worker @throws what BullMQ is to fail the job with, where the call is not valid
 */
export async function requestOfJob(scriptClient: ScriptClient, job: AttemptJob, token: string, callOf: ((job: Job) => Call) | undefined): Promise<CallRequest> {
  try {
    const call = scriptClient.resolver.withEndpoint(callIn(job, callOf))
    const costs = scriptClient.resolver.costs(call)
    const request = callRequest(scriptClient, recordId(job.queueName, job.id as string), '', call, costs instanceof Promise ? await costs : costs)
    const allowed = allowedIn(job.opts)
    return {
      ...(allowed.length === 0 ? request : allowedBy(request, allowed)),
      identity: keptIdentity(job.opts),
      arrivedMs: arrivalOf(job),
      lock: token === '' ? undefined : { key: scriptClient.keys.jobLock(job.queueName, job.id as string), token },
    }
  } catch (error) {
    throw error instanceof TollgateError ? finalFailure(error) : error
  }
}

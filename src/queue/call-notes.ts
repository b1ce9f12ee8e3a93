import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import type { CallRequest } from '../admission/request.js'
import type { CallEvent } from '../history/answers.js'
import { writeEvent, writeLimits } from '../history/event.js'
import type { EventSink, Recorder } from '../history/recorder.js'
import type { ActualCosts } from '../model/cost.js'
import { COST_UNITS } from '../model/cost.js'
import type { Decision } from '../model/decision.js'
import { approximateMs, type Clock } from '../model/time.js'
import type { HeadersLike } from '../model/upstream.js'
import type { Keys } from '../redis/keys.js'
import { scripts } from '../store/redis/scripts.js'
import type { Ended } from '../telemetry/observer.js'
import { toldLimits } from '../upstream/headers.js'
import { type AttemptJob, keptArrival, recordId } from './stored-call.js'

/** So many jobs have events noted in one script call, and so many between two flushes: of further calls nothing is noted. */
const JOBS_AT_ONCE = 100
const JOBS_AT_MOST = 4000
/** A call that has failed, or was sent back beside others, so often is one that fails again and again. It is remembered for so long. */
const TROUBLED_TIMES = 3
const TROUBLED_MS = 60_000
const TROUBLED_AT_MOST = 50
const WORDS = 200

interface Noted {
  readonly events: CallEvent[]
  /** Of its last start. */
  start: Decision | undefined
}

/**
 * What happens to the calls of this process: counted by the recorder, and noted in their jobs with its next flush. If the process dies, two seconds of it are
 * lost. Events are written down as text at the flush alone: the job of a call that is removed with its end is gone by then, and so are its notes.
 */
export class CallNotes implements EventSink {
  private noted = new Map<string, Noted>()
  private readonly troubled = new Map<string, string>()

  constructor(private readonly parts: { readonly redis: Redis; readonly keys: Keys; readonly clock: Clock; readonly recorder: Recorder }) {
    parts.recorder.notes(this)
  }

  /** A call was decided on at the front door. */
  decided(request: CallRequest, decision: Decision, tookMs: number): void {
    const { recorder } = this.parts
    recorder.arrived(request)
    recorder.decided(request, decision, tookMs)
    if (decision.outcome === 'reject') recorder.ended(request, 'refused')
    else if (decision.outcome === 'expired') recorder.ended(request, 'expired')
    else if (decision.outcome === 'wait') this.waits(request.id, decision)
  }

  /** The same in a worker, of a job that came by no front door. */
  decidedAtWorker(job: AttemptJob, request: CallRequest, decision: Decision, tookMs: number): void {
    if (decision.outcome === 'hold') return
    if (keptArrival(job.opts) !== undefined) {
      if (decision.outcome === 'wait') this.waits(request.id, decision)
      return
    }
    const { attemptsStarted = 1 } = job as { readonly attemptsStarted?: number }
    if (job.attemptsMade > 0 || attemptsStarted > 1) return
    const { recorder } = this.parts
    recorder.arrived(request)
    recorder.decided(request, decision, tookMs)
    if (decision.outcome === 'wait') this.waits(request.id, decision)
  }

  private waits(id: string, { atMs, binding, position, etaMs }: Extract<Decision, { outcome: 'wait' }>): void {
    const where = binding === null ? {} : { rule: binding.rule, limit: binding.limit, scopeValue: binding.scopeValue }
    this.note(id, { atMs: Math.floor(atMs), what: 'waiting', ...where, position, etaMs: etaMs === null ? null : Math.ceil(etaMs) })
  }

  /** @param ids of records */
  woken(ids: readonly string[]): void {
    for (const id of ids) this.note(id, { atMs: this.nowMs(), what: 'woken' })
  }

  /** Calls that the dispatcher has sent from one line to another. */
  moved(calls: readonly (readonly [id: string, line: string])[]): void {
    for (const [id, line] of calls) {
      const to = this.parts.keys.parseLine(line)
      this.note(id, { atMs: this.nowMs(), what: 'waiting', ...(to === null ? {} : { rule: to.rule, scopeValue: to.value }) })
    }
  }

  started(job: AttemptJob, request: CallRequest, decision: Decision, waitedMs: number): void {
    this.parts.recorder.started(request, waitedMs)
    this.note(idOf(job), { atMs: this.nowMs(), what: 'started', attempt: job.attemptsMade + 1 }, decision)
  }

  part(job: AttemptJob, actual: ActualCosts): void {
    this.note(idOf(job), { atMs: this.nowMs(), what: 'part', cost: known(actual) })
  }

  settled(job: AttemptJob, request: CallRequest, actual: ActualCosts): void {
    this.parts.recorder.used(request, actual)
    this.note(idOf(job), { atMs: this.nowMs(), what: 'settled', cost: known(actual) })
  }

  answered(job: AttemptJob, headers: HeadersLike): void {
    const told = toldLimits(headers)
    if (told !== undefined) this.note(idOf(job), { atMs: this.nowMs(), what: 'answered', headers: told })
  }

  /** @param why words of its error, where it has one */
  ended(job: AttemptJob, request: CallRequest, how: Ended, why?: string, headers?: HeadersLike): void {
    const counted = how === 'rejected' ? 'refused' : how
    this.parts.recorder.ended(request, counted)
    if (how === 'failed' && job.attemptsMade + 1 >= TROUBLED_TIMES) this.fails(job, request, job.attemptsMade + 1)
    const told = headers === undefined ? undefined : toldLimits(headers)
    const words = why === undefined ? {} : { why: why.slice(0, WORDS) }
    // When it was done stands in the job itself.
    if (how === 'done') this.forgetRemoved(job)
    else this.note(idOf(job), { atMs: this.nowMs(), what: counted, ...words, ...(told === undefined ? {} : { headers: told }) })
  }

  /** Its agent refused the call, and takes others. */
  sentBack(job: AttemptJob, request: CallRequest, returns: number): void {
    if (returns >= TROUBLED_TIMES) this.fails(job, request, returns)
  }

  private fails(job: AttemptJob, { call }: CallRequest, times: number): void {
    if (this.troubled.size < TROUBLED_AT_MOST) this.troubled.set(idOf(job), JSON.stringify({ atMs: this.nowMs(), times, agent: call.agent, org: call.org }))
  }

  async flush(): Promise<void> {
    const { redis, keys } = this.parts
    const noted = [...this.noted]
    this.noted = new Map()
    const sent: Promise<unknown>[] = []
    for (let from = 0; from < noted.length; from += JOBS_AT_ONCE) {
      // Other work of this process has its turn between.
      if (from > 0) await nextTurn()
      const some = noted.slice(from, from + JOBS_AT_ONCE)
      const jobs = some.map(([id]) => keys.job(id))
      const args = some.flatMap(([, { events, start }]) => [events.map(writeEvent).join(''), start === undefined ? '' : writeLimits(start.usage)])
      const noting = scripts.noteEvents.run(redis, jobs, args)
      // It may be refused in a turn before all are sent.
      noting.catch(() => {})
      sent.push(noting)
    }
    // Not awaited by itself: what was sent before may be refused meanwhile.
    sent.push(this.tellTroubled())
    await Promise.all(sent)
  }

  private async tellTroubled(): Promise<void> {
    if (this.troubled.size === 0) return
    const { redis, keys } = this.parts
    const fields = [...this.troubled].flat()
    this.troubled.clear()
    // A day's worth of calls that fail does not grow it: it goes whole, a minute after the last.
    if ((await redis.hlen(keys.troubled)) >= TROUBLED_AT_MOST) return
    await redis
      .pipeline()
      .hset(keys.troubled, ...fields)
      .pexpire(keys.troubled, TROUBLED_MS)
      .exec()
  }

  private note(id: string, event: CallEvent, start?: Decision): void {
    let noted = this.noted.get(id)
    if (noted === undefined) {
      if (this.noted.size >= JOBS_AT_MOST) return
      noted = { events: [], start: undefined }
      this.noted.set(id, noted)
    }
    noted.events.push(event)
    if (start !== undefined) noted.start = start
  }

  /** Nothing is kept of a call whose job goes with its end. */
  private forgetRemoved(job: AttemptJob): void {
    const { removeOnComplete } = job.opts
    if (removeOnComplete === true || removeOnComplete === 0) this.noted.delete(idOf(job))
  }

  private nowMs(): number {
    return Math.floor(approximateMs(this.parts.clock))
  }
}

function idOf(job: AttemptJob): string {
  return recordId(job.queueName, job.id as string)
}

function known(actual: ActualCosts): Record<string, number> {
  const cost: Record<string, number> = {}
  for (const unit of COST_UNITS) {
    const amount = actual[unit]
    if (amount !== undefined && amount !== 0) cost[unit] = amount
  }
  return cost
}

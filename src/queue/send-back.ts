import { DelayedError } from 'bullmq'
import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import type { CallRequest } from '../admission/request.js'
import type { Call } from '../model/call.js'
import { TollgateError } from '../model/errors.js'
import { connectionOf, mayHaveForgotten } from '../redis/connection.js'
import type { ScriptClient } from '../store/redis/script-client.js'
import type { AgentRefusal } from '../upstream/refusals.js'
import type { UpstreamTracker } from '../upstream/tracker.js'
import { type AttemptJob, delayMs, finalFailure, jobFailure, leave } from './stored-call.js'

/** The attempt that ends with the send-back: it holds the job until then. */
export interface JobHolder {
  readonly job: AttemptJob
  /** The lock of the job. */
  readonly token: string
  /** Why the attempt was aborted; undefined while it was not. */
  abortedBy(): TollgateError | undefined
  /** Repeats until Redis accepts it. @throws once the attempt is aborted or its worker closes */
  retrying<T>(work: () => Promise<T>): Promise<T>
}

const BLOCKED = 'the agent asked to be left alone; the call waits at its place in line'
const NOT_BLOCKED = 'the agent refused the call and takes others; the call is tried again by itself'

/**
 * Ends an attempt whose call has to wait: the call stands in a line, and its job becomes a delayed one, which uses no attempt.
 *
 * If the process dies before the job is delayed, BullMQ gives the job to another worker when its lock ends. That
 * worker's start script finds the call in its line, and the job is delayed then.
 */
export class SendBack {
  /** @param ownCallOf whether jobs are read by a function of the user's: Tollgate does not change their data then */
  constructor(
    private readonly redis: Redis,
    private readonly scriptClient: ScriptClient,
    private readonly tracker: UpstreamTracker,
    private readonly log: Logger,
    private readonly ownCallOf: boolean,
    /** How often a call may return that does not say so itself. */
    private readonly maxReturns: number,
  ) {}

  /**
   * The agent answered "not now": the charge is given back, and the call waits for its next try.
   * @param ended is told how the attempt ended, and how often the agent refused the call where it takes others @throws what fails the job, where the call has returned as often as it may
   */
  async limited(
    holder: JobHolder,
    request: CallRequest,
    { limited, words }: Extract<AgentRefusal, { name: 'later' }>,
    ended: (how: 'returned' | 'failed', returns?: number) => void,
  ): Promise<never> {
    const keepsLine = await this.storeMode(holder, request)
    const maxReturns = request.call.maxReturns ?? this.maxReturns
    let connection: unknown
    const { refusal, waitMs, returns, over, unkept, blockedMs, factor, cut } = await holder.retrying(() =>
      this.tracker.refused(request.call, limited, async (report) => {
        const returned = await this.scriptClient.returnCall(request, report, maxReturns, keepsLine)
        connection = connectionOf(this.redis)
        return returned
      }),
    )
    const told = { call: holder.job.id, agent: request.call.agent, returns, maxReturns }
    if (over && holder.abortedBy() === undefined) {
      ended('failed')
      this.log.warn(told, 'the agent refused the call more often than it may return; the call fails')
      throw finalFailure(new TollgateError('UPSTREAM_REFUSED', `refused ${returns} times (maxReturns ${maxReturns}), at last with: ${words}`))
    }
    ended('returned', refusal === 'blocks' ? undefined : returns)
    const state = { ...told, blockedMs: Math.ceil(blockedMs), waitMs: Math.ceil(waitMs), factor, cut }
    this.log.warn(state, refusal === 'blocks' ? BLOCKED : NOT_BLOCKED)
    return this.delay(holder, request, waitMs, connection, unkept)
  }

  /** The start script has put the call in a line. */
  async waiting(holder: JobHolder, request: CallRequest, mostMs: number | null): Promise<never> {
    const connection = connectionOf(this.redis)
    await this.storeMode(holder, request)
    return this.delay(holder, request, mostMs, connection)
  }

  /**
   * Writes into the job that its call runs in degraded mode, where the worker has decided so.
   * @returns false where the job keeps its data, since the user's own function reads it: the job returns as that of a new call then
   */
  private async storeMode(holder: JobHolder, { call }: CallRequest): Promise<boolean> {
    if (call.degraded !== true || (holder.job.data as Partial<Call> | null)?.degraded === true) return true
    if (this.ownCallOf) return false
    await holder.retrying(() => holder.job.updateData(call))
    return true
  }

  /** @param connection over which the script told that the call stands in a line */
  private async delay(holder: JobHolder, request: CallRequest, mostMs: number | null, connection: unknown, returns = ''): Promise<never> {
    const aborted = holder.abortedBy()
    if (aborted !== undefined) {
      // Cancelled while the script put it in line: a place without a job would keep the calls behind it waiting.
      await leave(this.scriptClient, request)
      throw jobFailure(aborted)
    }
    await holder.retrying(() => holder.job.moveToDelayed(Date.now() + delayMs(mostMs), holder.token))
    if (mayHaveForgotten(this.redis, connection)) await this.wakeForgotten(holder, request)
    if (returns !== '') await holder.retrying(() => this.scriptClient.keepReturns(request.id, returns))
    throw new DelayedError()
  }

  /** A call that a failover took out of its line, before its job was delayed: its job comes back as that of a new call. */
  private async wakeForgotten(holder: JobHolder, request: CallRequest): Promise<void> {
    if ((await holder.retrying(() => this.scriptClient.recordOf(request.id))) !== null) return
    // A negative answer of BullMQ: the job is on its way already.
    await holder.job.promote().catch(() => {})
  }
}

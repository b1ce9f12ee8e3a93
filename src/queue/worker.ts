import { setTimeout as sleep } from 'node:timers/promises'
import { Worker as BullWorker, DelayedError, type Job } from 'bullmq'
import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import { rejection } from '../admission/rejection.js'
import type { CallRequest } from '../admission/request.js'
import type { Call } from '../model/call.js'
import { type ActualCosts, COST_UNITS, NOTHING } from '../model/cost.js'
import type { DegradeDecision, RunDecision } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import { TollgateError, type UpstreamLimited } from '../model/errors.js'
import { actualCosts } from '../pricing/costs.js'
import { type CallUsage, usageOfResult } from '../pricing/usage.js'
import { persist } from '../redis/bounded-wait.js'
import { isStoreError } from '../redis/store-error.js'
import type { LedgerNames } from '../store/ledger-names.js'
import type { ScriptClient } from '../store/redis/script-client.js'
import type { Ended, WorkerObserver } from '../telemetry/observer.js'
import { upstreamLimited } from '../upstream/refusal.js'
import type { UpstreamTracker } from '../upstream/tracker.js'
import { validateCall } from '../validation/call.js'
import { type CallContext, Context, Run } from './attempt.js'
import { Heartbeat } from './heartbeat.js'
import { callOfJob, delayMs, failureOf, finalFailure } from './job.js'
import { StartBatcher } from './start-batcher.js'
import { callRequest, leave, recordId } from './stored-call.js'
import type { StrategyResolver } from './strategy-resolver.js'

/** Makes the call. What it returns is the call's result; a `usage` in it settles the estimate. */
export type Handler = (call: Call, context: CallContext) => Promise<unknown>

export interface WorkerOptions {
  /** Calls that run at once; default 50. */
  concurrency?: number | undefined
  /** How long a handler may take; default 0 = as long as it likes. */
  timeoutMs?: number | undefined
  /** How long this worker may be silent before its calls are given to another; default 30 s. */
  leaseMs?: number | undefined
  /** Is told what happens to the calls of this worker. */
  observer?: WorkerObserver | undefined
  /**
   * Answers a call in degraded mode instead of its agent: from a cache, say. Where it answers
   * undefined the handler is asked. What it answers for is charged to the allowance only.
   */
  fallback?: ((call: Call, context: CallContext) => unknown) | undefined
  /** Reads the call from a job that another producer added; default: its data, see the README. */
  callOf?: ((job: Job) => Call) | undefined
}

export interface WorkerParts {
  readonly scriptClient: ScriptClient
  readonly ledgerNames: LedgerNames
  readonly redis: Redis
  readonly queue: string
  readonly prefix: string
  readonly log: Logger
  readonly strategyResolver: StrategyResolver
  /** Whether Redis stands still or refuses. */
  readonly away: () => boolean
  /** What agents say about their limits. */
  readonly tracker: UpstreamTracker
}

/**
 * Takes jobs from BullMQ and passes each through the gate before its handler, whoever added
 * it. What BullMQ calls an attempt is a call that reached its agent; waiting is none.
 */
export class Worker {
  readonly bull: BullWorker
  private readonly parts: WorkerParts
  private readonly handler: Handler
  private readonly options: WorkerOptions
  private readonly gateway: StartBatcher
  private readonly heartbeat: Heartbeat
  /** The calls whose handlers run here, by their job's id. */
  private readonly runs = new Map<string, Run>()
  private closing = false

  constructor(parts: WorkerParts, handler: Handler, options: WorkerOptions) {
    this.parts = parts
    this.handler = handler
    this.options = options
    this.gateway = new StartBatcher(parts.scriptClient, parts.log, parts.ledgerNames)
    this.heartbeat = new Heartbeat(parts.scriptClient, parts.log)
    this.bull = new BullWorker(parts.queue, (job, token) => this.process(job, token ?? ''), {
      connection: parts.redis,
      prefix: parts.prefix,
      concurrency: options.concurrency ?? DEFAULTS.concurrency,
      lockDuration: options.leaseMs ?? DEFAULTS.leaseMs,
      stalledInterval: options.leaseMs ?? DEFAULTS.leaseMs,
      maxStalledCount: DEFAULTS.lostAtMost,
      runRetryDelay: DEFAULTS.longestStoreRetryMs,
      removeOnComplete: { age: DEFAULTS.keepResultsMs / 1000 },
      removeOnFail: { age: DEFAULTS.keepFailuresMs / 1000 },
    })
    this.bull.on('error', (error) => parts.log.error({ err: error }, 'worker error'))
    this.bull.on('stalled', (jobId) => parts.log.warn({ call: jobId }, 'a worker lost this call; it is run again'))
  }

  /**
   * Stops taking calls and waits for those that run.
   * @param force does not wait: another worker runs them again. For when Redis is gone
   */
  async close(force = this.parts.away() || this.parts.redis.status !== 'ready'): Promise<void> {
    this.closing = true
    await this.bull.close(force)
    if (!force) await this.gateway.close()
    await this.heartbeat.close(force)
  }

  /** Aborts a call if it runs here. */
  abort(jobId: string): boolean {
    const run = this.runs.get(jobId)
    run?.abort(new TollgateError('CALL_CANCELLED', 'the call was cancelled while it ran'))
    return run !== undefined
  }

  private async process(job: Job, token: string): Promise<unknown> {
    const call = await this.ask(job)
    const id = job.id as string
    const run = new Run()
    this.runs.set(id, run)
    try {
      return await this.pass(job, token, call, run)
    } finally {
      this.runs.delete(id)
    }
  }

  private async pass(job: Job, token: string, call: CallRequest, run: Run): Promise<unknown> {
    for (;;) {
      if (run.aborted !== undefined) throw failureOf(run.aborted)
      const { request, decision } = await this.parts.strategyResolver.decide(
        call,
        (one) => this.persist(run, () => this.gateway.start(one)),
        this.options.callOf === undefined,
      )
      switch (decision.outcome) {
        case 'run':
        case 'degrade':
          return this.run(job, token, request, decision, run)
        case 'hold':
          await sleep(decision.waitMs)
          break
        case 'wait':
          await this.keepsMode(job, request, run)
          return this.putBack(job, token, request, decision.etaMs, run)
        case 'expired':
          this.ended(request, 'expired', undefined)
          throw finalFailure(rejection(decision))
        case 'reject':
          this.ended(request, 'rejected', undefined)
          throw finalFailure(rejection(decision))
      }
    }
  }

  /**
   * Asks until Redis takes it, while the call is held: a Redis that refuses is no fault of the
   * call, and no attempt. One that is being closed lets go of it; another worker runs it then.
   */
  private persist<T>(run: Run, work: () => Promise<T>): Promise<T> {
    return persist(work, (error) => {
      if (run.aborted !== undefined) throw failureOf(run.aborted)
      if (this.closing) throw new DelayedError()
      this.parts.log.warn({ err: error }, 'Redis refuses; the call is held and asked for again')
    })
  }

  private async ask(job: Job): Promise<CallRequest> {
    const { scriptClient } = this.parts
    try {
      const call = this.options.callOf === undefined ? callOfJob(job.name, job.data) : validateCall(this.options.callOf(job))
      const costs = scriptClient.costs(call)
      return callRequest(scriptClient, recordId(job.queueName, job.id as string), '', call, costs instanceof Promise ? await costs : costs)
    } catch (error) {
      throw error instanceof TollgateError ? finalFailure(error) : error
    }
  }

  private async run(job: Job, token: string, request: CallRequest, decision: RunDecision | DegradeDecision, run: Run): Promise<unknown> {
    if (run.aborted !== undefined) {
      // Cancelled while its start was on its way: it never reaches the agent.
      await this.unmade(request, decision, run)
      throw failureOf(run.aborted)
    }
    const timeoutMs = this.options.timeoutMs ?? DEFAULTS.timeoutMs
    const timer =
      timeoutMs > 0
        ? setTimeout(() => run.abort(new TollgateError('CALL_TIMED_OUT', `the handler did not finish within ${timeoutMs} ms`)), timeoutMs)
        : undefined
    const degraded = request.call.degraded === true
    const degradeTo = this.parts.scriptClient.degradeTo(request.call.agent)
    const parts = { id: job.id as string, attempt: job.attemptsMade + 1, decision, degraded, degradeTo }
    const context = new Context(parts, run, {
      settle: (usage) => this.settlePart(request, usage),
      observe: (headers) => this.parts.tracker.observe(request.call, headers),
    })
    this.heartbeat.add(request)
    let made = false
    try {
      this.options.observer?.started?.(request.call, Date.now() - job.timestamp)
      const instead = degraded ? await run.until(this.options.fallback?.(request.call, context)) : undefined
      if (instead !== undefined) {
        await this.settleUnmade(request, decision, run)
        return instead
      }
      made = true
      const result = await run.until(this.handler(request.call, context))
      this.settle(request, 'done', usageOfResult(result), context)
      return result
    } catch (error) {
      // A fallback that is out of reach says nothing about the agent.
      const limited = made && run.aborted === undefined ? upstreamLimited(error) : undefined
      if (limited !== undefined) return await this.giveBack(job, token, request, limited, run)
      this.settle(request, 'failed', usageOfResult(error), context)
      throw error instanceof TollgateError ? failureOf(error) : error
    } finally {
      clearTimeout(timer)
      this.heartbeat.remove(request)
    }
  }

  private actual({ call }: CallRequest, usage: CallUsage | undefined): ActualCosts {
    return actualCosts(usage, call, this.parts.scriptClient.rules.prices)
  }

  /** What was said while it ran is what it cost where nothing is said at its end. */
  private settle(request: CallRequest, how: Ended, usage: CallUsage | undefined, { usage: soFar, decision }: Context): void {
    const actual = this.actual(request, usage ?? soFar)
    this.gateway.settle(request, actual, { asEstimated: soFar === undefined, watched: decision.watched === true })
    this.ended(request, how, actual.tokens)
  }

  /** The agent was not asked: only the allowance of the degraded mode stays charged. */
  private async settleUnmade(request: CallRequest, decision: RunDecision | DegradeDecision, run: Run): Promise<void> {
    await this.unmade({ ...request, meters: request.meters.filter(({ rule }) => rule.kind !== 'degraded') }, decision, run)
    this.ended(request, 'done', undefined)
  }

  /** Gives back what a call was charged that its agent has not seen: so it was no canary either, and another call goes. */
  private async unmade(request: CallRequest, { watched }: RunDecision | DegradeDecision, run: Run): Promise<void> {
    if (watched === true) await this.persist(run, () => this.parts.scriptClient.release(request))
    else this.gateway.settle(request, NOTHING)
  }

  /** What a call has used that goes on: sent only where it is more than was charged. */
  private async settlePart(request: CallRequest, usage: CallUsage): Promise<void> {
    const actual = this.actual(request, usage)
    const { costs } = request
    if (!COST_UNITS.some((unit) => (actual[unit] ?? 0) > costs[unit])) return
    const told = this.parts.scriptClient.settle([{ request, actual }], 'part').catch((error: unknown) => {
      // Its end settles it anyway: a stream is not broken off, nor kept waiting, for a Redis that is away.
      if (!isStoreError(error)) throw error
    })
    if (this.parts.redis.status === 'ready') await Promise.race([told, sleep(DEFAULTS.storeTimeoutMs, undefined, { ref: false })])
    else told.catch(() => {})
  }

  private ended({ call, costs }: CallRequest, how: Ended, actual: number | undefined): void {
    this.options.observer?.ended?.(call, how, { estimated: costs.tokens, actual })
  }

  /** The agent said "not now": the call goes back to the head of its line, for which no attempt is counted. */
  private async giveBack(job: Job, token: string, request: CallRequest, limited: UpstreamLimited, run: Run): Promise<never> {
    const { scriptClient, tracker } = this.parts
    const keeps = await this.keepsMode(job, request, run)
    const { blockedMs, factor, cut } = await this.persist(run, () =>
      tracker.refused(request, request.call, limited, (call, said) => (keeps ? scriptClient.giveBack(call, said) : scriptClient.reportUpstream(call, said))),
    )
    this.ended(request, 'returned', undefined)
    this.parts.log.warn(
      { call: job.id, agent: request.call.agent, blockedMs: Math.ceil(blockedMs), factor, cut },
      'the agent asked to be left alone; the call waits at the head of its line',
    )
    return this.putBack(job, token, request, blockedMs, run)
  }

  /**
   * Whether the job of a call is that of the call as it ran: one that was degraded here is made so.
   * A job that is read in the user's own way is left as it is: it comes back as one that is new.
   */
  private async keepsMode(job: Job, { call }: CallRequest, run: Run): Promise<boolean> {
    if (call.degraded !== true || (job.data as Partial<Call> | null)?.degraded === true) return true
    if (this.options.callOf !== undefined) return false
    await this.persist(run, () => job.updateData(call))
    return true
  }

  /** The call waits: its job is delayed. Was it cancelled while it was put in line, it leaves that. */
  private async putBack(job: Job, token: string, request: CallRequest, etaMs: number | null, run: Run): Promise<never> {
    if (run.aborted !== undefined) {
      await leave(this.parts.scriptClient, request)
      throw failureOf(run.aborted)
    }
    await this.persist(run, () => job.moveToDelayed(Date.now() + delayMs(etaMs), token))
    throw new DelayedError()
  }
}

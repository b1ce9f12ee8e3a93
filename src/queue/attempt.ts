import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { DelayedError, type Job } from 'bullmq'
import { rejection } from '../admission/rejection.js'
import type { CallRequest, MeterRef } from '../admission/request.js'
import { type ActualCosts, atLeast, COST_UNITS, NOTHING } from '../model/cost.js'
import type { DegradeDecision, RunDecision } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import { TollgateError, type UpstreamLimited } from '../model/errors.js'
import type { HeadersLike } from '../model/upstream.js'
import { type CallUsage, completed, mergeParts } from '../pricing/usage.js'
import { retrying, within } from '../redis/bounded-wait.js'
import { isStoreError } from '../redis/store-error.js'
import type { Ended } from '../telemetry/observer.js'
import type { AttemptTrace } from '../telemetry/tracing.js'
import { type AgentRefusal, refusalOf } from '../upstream/refusals.js'
import type { AttemptParts } from './attempt-parts.js'
import type { CallContext } from './handler.js'
import { faultOfResult, isPutElsewhere, isRateLimited, rateLimitOf, readableError } from './handler-outcome.js'
import type { JobHolder } from './send-back.js'
import { type AttemptJob, finalFailure, jobFailure, keptArrival, requestOfJob } from './stored-call.js'

type AttemptState =
  /** Nothing runs that an abort would have to stop: the attempt looks at its state at the next step. */
  | { readonly name: 'at the gate' }
  /** The handler (or the fallback) works; `reject` ends the wait for it. */
  | { readonly name: 'at the handler'; readonly reject: (error: TollgateError) => void }
  | { readonly name: 'aborted'; readonly error: TollgateError }
  | { readonly name: 'ended' }

type StartDecision = RunDecision | DegradeDecision

/** Instead of a result: the call asks the gate again. */
const AGAIN = Symbol('again')
const NO_HEADERS = Object.freeze({})

/**
 * One call in a worker, from the moment BullMQ hands over its job until the job ends or is delayed.
 *
 * Model. BullMQ decides which worker gets the job, the start script whether the call may reach its agent now. An attempt sends the start to the
 * script, which charges the estimate, runs the handler, and settles what the call has really cost. For BullMQ an attempt is a call that reached its
 * agent: a call that waits, is held or is returned by a 429 uses none.
 *
 *                hold: sleep until the slot, then start again
 *                 ┌──┐
 *     job ──▶ at the gate ── run, degrade ──▶ at the handler ──▶ ended: done, failed
 *              │  │  ▲                              │
 *              │  │  └────── 429, 503: charge given back
 *              │  └── wait, or after a 429 ──▶ ended: in line, its job delayed (SendBack)
 *              └── reject, expired ──▶ ended: failed, nothing charged
 *
 * An abort (the call was cancelled, or took too long) can come at any time. At the handler it aborts the
 * signal and ends the wait: the caller is answered, and what the call has used stays charged. While a
 * handler that ignores the signal goes on, the call keeps its slots.
 * At the gate the attempt ends at its next step, and a charge or a place in line is given back.
 *
 * If Redis refuses or is away at the gate, the attempt holds the job and repeats: no call fails for that, and
 * no attempt is used. A worker that closes lets go of the job.
 *
 * A worker that stands still loses the job's lock, and BullMQ gives the job to another one. A start and a
 * refusal that this attempt sends then change nothing of the other attempt: scripts compare the lock.
 *
 * If the process dies here, BullMQ gives the job to another worker when the lock ends (one to two `leaseMs`):
 * - at the gate: the place or pass of the call stands, and the next worker goes on with it.
 * - after the charge, before the handler's end: the agent may have seen the call. The charge stays, and the
 *   next attempt is charged again; concurrency slots end with their lease.
 * - after the handler's end: the same, unless the settlement had left already (StartBatcher).
 */
export class Attempt implements JobHolder {
  private state: AttemptState = { name: 'at the gate' }
  private controller: AbortController | undefined
  /** The usage that the handler reported in parts so far. */
  private reported: CallUsage | undefined
  /** The handler (or the fallback), until it has ended. */
  private work: Promise<unknown> | undefined
  /** When the handler (or the fallback) was called, by `performance.now()`. */
  private handledMs: number | undefined

  constructor(
    private readonly parts: AttemptParts,
    readonly job: AttemptJob,
    readonly token: string,
    private readonly trace?: AttemptTrace,
  ) {}

  /** The result of the call. @throws what BullMQ is to do with the job instead */
  async run(): Promise<unknown> {
    const { scriptClient, strategyResolver, starter, sendBack, options } = this.parts
    const ask = (fresh: () => Promise<CallRequest>) =>
      starter.start({ fresh, retrying: (work) => this.retrying(work), check: () => this.checkGoesOn(), refused: this.job.refusedHere })
    const { trace } = this
    const start =
      trace === undefined
        ? ask
        : (fresh: () => Promise<CallRequest>) =>
            trace.gate(
              () => ask(fresh),
              ({ decision }) => decision,
            )
    const resolved = () => requestOfJob(scriptClient, this.job, this.token, options.callOf)
    try {
      let { rules } = scriptClient.resolver
      let call = await resolved()
      const fresh = async () => {
        // While the call was held, or Redis refused, rules may have changed: an older, smaller limit would forget what others have used above it.
        if (scriptClient.resolver.rules !== rules) {
          rules = scriptClient.resolver.rules
          call = await resolved()
        }
        return call
      }
      const startAs = (request: CallRequest) => start(async () => request)
      for (;;) {
        this.throwIfAborted()
        const sentMs = performance.now()
        const first = await start(fresh)
        this.parts.notes.decidedAtWorker(this.job, first.request, first.decision, performance.now() - sentMs)
        const { request, decision } =
          first.decision.outcome === 'reject'
            ? await strategyResolver.resolve(this.atItsPlace(call), first.decision, startAs, options.callOf === undefined)
            : first
        switch (decision.outcome) {
          case 'run':
          case 'degrade': {
            const result = await this.handle(request, decision)
            if (result !== AGAIN) return result
            break
          }
          case 'hold':
            await sleep(decision.waitMs)
            break
          case 'wait':
            return await sendBack.waiting(this, request, decision.etaMaxMs)
          case 'expired':
          case 'reject':
            // Cancelled while it was decided on: that is what its app was told.
            this.throwIfAborted()
            this.observeEnd(request, decision.outcome === 'reject' ? 'rejected' : 'expired', undefined)
            throw finalFailure(rejection(decision, { ...request, ownEstimate: scriptClient.resolver.ownEstimate }))
          default:
            throw new Error(`unknown outcome ${decision satisfies never}`)
        }
      }
    } finally {
      if (this.state.name !== 'aborted') this.state = { name: 'ended' }
    }
  }

  abort(error: TollgateError): void {
    const { state } = this
    if (state.name === 'aborted' || state.name === 'ended') return
    this.state = { name: 'aborted', error }
    this.controller?.abort(error)
    if (state.name === 'at the handler') state.reject(error)
  }

  abortedBy(): TollgateError | undefined {
    return this.state.name === 'aborted' ? this.state.error : undefined
  }

  retrying<T>(work: () => Promise<T>): Promise<T> {
    return retrying(work, (error) => {
      this.checkGoesOn()
      this.parts.metrics.cells.add('storeErrors', 1)
      this.parts.log.warn({ err: error }, 'Redis refuses; the call is held, and its start is sent again')
    })
  }

  /** @throws what the attempt ends with, where the call was aborted or the worker closes */
  private checkGoesOn(): void {
    this.throwIfAborted()
    if (this.parts.isClosing()) throw new DelayedError()
  }

  private context(request: CallRequest, decision: StartDecision): CallContext {
    const attempt = this
    const { job, parts } = attempt
    return {
      id: job.id as string,
      // Without a lock it stands for the job of a held call that has none.
      job: attempt.token === '' ? undefined : (job as Job),
      attempt: job.attemptsMade + 1,
      decision,
      degraded: request.call.degraded === true,
      degradeTo: parts.scriptClient.degradeTo(request.call.agent),
      settlePart: (usage) => this.settlePart(request, usage),
      observe: (headers) => {
        parts.notes.answered(job, headers)
        parts.tracker.observe(request.call, headers)
      },
      get traceHeaders() {
        return attempt.trace?.headers ?? NO_HEADERS
      },
      /** Made when a handler reads it, which most handlers do not. */
      get signal() {
        attempt.controller ??= new AbortController()
        const aborted = attempt.abortedBy()
        if (aborted !== undefined) attempt.controller.abort(aborted)
        return attempt.controller.signal
      },
    }
  }

  /** Sends what a call has used that goes on, if that is more than was charged. */
  private async settlePart(request: CallRequest, usage: CallUsage): Promise<void> {
    const part = this.parts.usage.usageIn(request.call.agent, { usage })
    if (part === undefined) return
    this.reported = mergeParts(this.reported ?? {}, part)
    const actual = this.parts.usage.actual(request, this.reported)
    const { costs } = request
    if (!COST_UNITS.some((unit) => (actual[unit] ?? 0) > costs[unit])) return
    const { starter, redis } = this.parts
    this.parts.notes.part(this.job, actual)
    try {
      const isAway = redis.status !== 'ready' && !starter.owns(request)
      await within(isAway ? 0 : DEFAULTS.storeTimeoutMs, starter.settlePart(request, actual))
    } catch (error) {
      // The end of the call settles it anyway: a stream is neither broken off nor kept waiting for a Redis that is away.
      if (!isStoreError(error)) throw error
    }
  }

  /** A refusal has ended the record of the call, and with it its place: where it waits after all, it has that place again. */
  private atItsPlace(request: CallRequest): CallRequest {
    return { ...request, arrivedMs: keptArrival(this.job.opts) ?? request.arrivedMs }
  }

  private throwIfAborted(): void {
    const aborted = this.abortedBy()
    if (aborted !== undefined) throw jobFailure(aborted)
  }

  private async handle(request: CallRequest, decision: StartDecision): Promise<unknown> {
    const { options, leases, handler, sendBack, usage: reader } = this.parts
    if (this.abortedBy() !== undefined) {
      // Cancelled while its start was on its way: it never reaches the agent.
      await this.uncharge(request, decision)
      this.throwIfAborted()
    }
    const timeoutMs = options.timeoutMs ?? DEFAULTS.timeoutMs
    const late = () => this.abort(new TollgateError('CALL_TIMED_OUT', `the handler did not finish within ${timeoutMs} ms`))
    const timer = timeoutMs > 0 ? setTimeout(late, timeoutMs) : undefined
    const context = this.context(request, decision)
    leases.add(request)
    this.parts.scriptClient.resolver.started(request)
    let reachedAgent = false
    try {
      const waitedMs = Date.now() - this.job.timestamp
      this.parts.metrics.started(request.call, waitedMs)
      this.parts.observer.started(request.call, waitedMs)
      this.parts.notes.started(this.job, request, decision, waitedMs)
      this.handledMs = performance.now()
      this.trace?.started()
      if (context.degraded) {
        const instead = await this.outcome(options.fallback?.(request.call, context))
        if (instead !== undefined) {
          // The agent was not called: only the allowance of the degraded mode stays charged.
          await this.uncharge(request, decision, ({ rule }) => rule.kind !== 'degraded')
          this.observeEnd(request, 'done', undefined)
          return instead
        }
      }
      reachedAgent = true
      const { trace } = this
      const result = await this.outcome(trace === undefined ? handler(request.call, context) : trace.agent(request.call, () => handler(request.call, context)))
      const fault = faultOfResult(result, options.maxResultBytes ?? DEFAULTS.maxResultBytes)
      if (fault !== undefined) throw Object.assign(fault, { usage: reader.usageIn(request.call.agent, result) })
      const actual = this.settle(request, result, decision)
      trace?.answered(actual, result)
      this.observeEnd(request, 'done', actual)
      return result
    } catch (error) {
      this.trace?.answered(undefined, undefined, error)
      const refusal = this.abortedBy() === undefined ? await this.refusalIn(error, reachedAgent) : undefined
      if (refusal !== undefined) this.parts.metrics.cells.add('refusals', 1, request.call.agent, refusal.name)
      if (refusal?.name === 'later' && this.parts.starter.owns(request)) return await this.refusedWithout(request, decision, refusal.limited)
      if (refusal?.name === 'later') {
        this.state = { name: 'at the gate' }
        clearTimeout(timer)
        return await sendBack.limited(this, request, refusal, (how, returns) => {
          this.observeEnd(request, how, undefined, refusal.words, refusal.limited.headers)
          if (returns !== undefined) this.parts.notes.sentBack(this.job, request, returns)
        })
      }
      if (refusal?.name === 'never') {
        clearTimeout(timer)
        return await this.refusedForGood(request, decision, refusal.words, error)
      }
      if (isPutElsewhere(error) && this.abortedBy() === undefined && this.work === undefined) {
        // BullMQ runs the job again: what this run was charged goes back, but for what it says to have used.
        const usage = reader.usageIn(request.call.agent, error) ?? this.reported
        if (usage === undefined) await this.uncharge(request, decision)
        else this.settle(request, { usage }, decision)
        this.observeEnd(request, 'returned', undefined)
        throw error
      }
      // A handler that heeds its signal ends in this turn.
      if (this.work !== undefined) await nextTurn()
      const { work } = this
      const actual = work === undefined ? this.settle(request, error, decision) : this.settleCost(work, request, decision)
      this.observeEnd(request, 'failed', actual, readableError(error).message)
      throw error instanceof TollgateError ? jobFailure(error) : error
    } finally {
      clearTimeout(timer)
      if (this.work === undefined) leases.remove(request)
    }
  }

  /** The refusal in what was thrown: an error of the fallback is none of the agent's, but BullMQ's own limit is one wherever it comes from. */
  private async refusalIn(error: unknown, reachedAgent: boolean): Promise<AgentRefusal | undefined> {
    if (!isRateLimited(error)) return reachedAgent ? refusalOf(error) : undefined
    const { redis, scriptClient } = this.parts
    const limited = await rateLimitOf(redis, scriptClient.keys.queueLimiter(this.job.queueName))
    return { name: 'later', limited, words: 'the handler threw a RateLimitError' }
  }

  /**
   * The agent refused a call that was let in while Redis is away, where its line is: it stays with the worker and asks the gate again, which keeps to what
   * the agent asked for as far as this process has heard.
   */
  private async refusedWithout(request: CallRequest, decision: StartDecision, limited: UpstreamLimited): Promise<typeof AGAIN> {
    this.state = { name: 'at the gate' }
    this.parts.tracker.refusedHere(request.call, limited)
    await this.uncharge(request, decision)
    this.observeEnd(request, 'returned', undefined)
    return AGAIN
  }

  /** The agent says that waiting does not help: the call fails with its words, and is charged only what the agent says that it has used. */
  private async refusedForGood(request: CallRequest, decision: StartDecision, words: string, error: unknown): Promise<never> {
    const usage = this.parts.usage.usageIn(request.call.agent, error) ?? this.reported
    if (usage === undefined) await this.uncharge(request, decision)
    const actual = usage === undefined ? undefined : this.settle(request, { usage }, decision)
    this.parts.log.warn({ call: this.job.id, agent: request.call.agent }, 'the agent refused the call for good; the call fails')
    this.observeEnd(request, 'failed', actual, words)
    throw finalFailure(new TollgateError('UPSTREAM_REFUSED', words))
  }

  /** What the fallback or handler returns, or the abort where that comes first. */
  private outcome(returned: unknown): Promise<unknown> {
    const work = Promise.resolve(returned).finally(() => {
      this.work = undefined
    })
    this.work = work
    return new Promise((resolve, reject) => {
      const aborted = this.abortedBy()
      if (aborted === undefined) this.state = { name: 'at the handler', reject }
      else reject(aborted)
      work.then(resolve, reject)
    })
  }

  /** Settles a call that has ended, by the usage in what its handler returned or threw, and by what only `settlePart` said. @returns its actual costs */
  private settle(request: CallRequest, outcome: unknown, { watched }: StartDecision): ActualCosts {
    const { usage } = this.parts
    const actual = usage.actual(request, completed(usage.usageIn(request.call.agent, outcome), this.reported))
    this.parts.starter.settle(request, actual, { asEstimated: this.reported === undefined, watched: watched === true })
    this.parts.notes.settled(this.job, request, actual)
    return actual
  }

  /**
   * Settles a call whose caller was answered, and whose handler goes on: it holds its slots until the handler has ended. Its parts say what it has used
   * so far, and the agent may be at work still: no part of the estimate goes back.
   */
  private settleCost(work: Promise<unknown>, request: CallRequest, { watched }: StartDecision): ActualCosts {
    const { starter, leases } = this.parts
    const actual = atLeast(request.costs, this.parts.usage.actual(request, this.reported))
    starter.settleCost(request, actual, watched === true)
    this.parts.notes.settled(this.job, request, actual)
    const free = () => {
      leases.remove(request)
      starter.freeSlots(request)
    }
    work.then(free, free)
    return actual
  }

  /** Gives back what a call was charged that did not reach its agent. If it was the probe of a block, another call becomes the probe. */
  private async uncharge(request: CallRequest, { watched }: StartDecision, which?: (meter: MeterRef) => boolean): Promise<void> {
    const { starter, scriptClient } = this.parts
    const part = which === undefined || starter.owns(request) ? request : { ...request, meters: request.meters.filter(which) }
    if (watched === true) await this.retrying(() => scriptClient.release(part))
    else starter.settle(part, NOTHING, { asEstimated: true, watched: false })
  }

  /** @param why words of its error, and the headers of the agent's refusal */
  private observeEnd(request: CallRequest, how: Ended, actual: ActualCosts | undefined, why?: string, headers?: HeadersLike): void {
    const { call, costs } = request
    const ranMs = this.handledMs === undefined ? undefined : performance.now() - this.handledMs
    this.handledMs = undefined
    this.parts.metrics.ended(call, how, costs, actual, ranMs)
    this.parts.observer.ended(call, how, { estimated: costs.tokens, actual: actual?.tokens })
    this.parts.notes.ended(this.job, request, how, why, headers)
  }
}

import { setTimeout as sleep } from 'node:timers/promises'
import { Worker as BullWorker, DelayedError, type Job } from 'bullmq'
import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import { type Call, validateCall } from '../call.js'
import { DEFAULTS } from '../config/defaults.js'
import { type Estimate, estimateTokens } from '../cost/estimate.js'
import { totalTokens, usageOf } from '../cost/usage.js'
import type { RunDecision } from '../decision.js'
import { TollgateError, UpstreamLimited } from '../errors.js'
import type { Asked, Gate } from '../gate/gate.js'
import { delayMs } from './delay.js'
import { failureOf, finalFailure, rejection } from './failure.js'
import { Gateway } from './gateway.js'
import { Heartbeat } from './heartbeat.js'
import { callOfJob } from './job-call.js'
import { askFor, gateId } from './stored.js'

/** What a handler gets besides the call. */
export interface CallContext {
  /** The id of the call and of its BullMQ job. */
  readonly id: string
  /** Aborts when the call is cancelled or takes longer than `timeoutMs`. */
  readonly signal: AbortSignal
  /** 1 for the first try. Waiting is no attempt. */
  readonly attempt: number
  /** When the call was charged (Redis' clock), and what its limits looked like then. */
  readonly decision: RunDecision
}

/** Makes the call. What it returns is the call's result; a `usage` in it settles the estimate. */
export type Handler = (call: Call, context: CallContext) => Promise<unknown>

export interface WorkerOptions {
  /** Calls that run at once; default 50. */
  concurrency?: number | undefined
  /** How long a handler may take; default 0 = as long as it likes. */
  timeoutMs?: number | undefined
  /** How long this worker may be silent before its calls are given to another; default 30 s. */
  leaseMs?: number | undefined
  /** Reads the call from a job that another producer added; default: its data, see the README. */
  callOf?: ((job: Job) => Call) | undefined
}

export interface WorkerParts {
  readonly gate: Gate
  readonly redis: Redis
  readonly queue: string
  readonly prefix: string
  readonly estimate: Estimate | undefined
  readonly log: Logger
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
  private readonly gateway: Gateway
  private readonly heartbeat: Heartbeat

  constructor(parts: WorkerParts, handler: Handler, options: WorkerOptions) {
    this.parts = parts
    this.handler = handler
    this.options = options
    this.gateway = new Gateway(parts.gate, parts.log)
    this.heartbeat = new Heartbeat(parts.gate, parts.log)
    this.bull = new BullWorker(parts.queue, (job, token, signal) => this.process(job, token ?? '', signal ?? new AbortController().signal), {
      connection: parts.redis,
      prefix: parts.prefix,
      concurrency: options.concurrency ?? DEFAULTS.concurrency,
      lockDuration: options.leaseMs ?? DEFAULTS.leaseMs,
      stalledInterval: options.leaseMs ?? DEFAULTS.leaseMs,
      maxStalledCount: DEFAULTS.lostAtMost,
      removeOnComplete: { age: DEFAULTS.keepResultsMs / 1000 },
      removeOnFail: { age: DEFAULTS.keepFailuresMs / 1000 },
    })
    this.bull.on('error', (error) => parts.log.error({ err: error }, 'worker error'))
    this.bull.on('stalled', (jobId) => parts.log.warn({ call: jobId }, 'a worker lost this call; it is run again'))
  }

  /** Stops taking calls and waits for those that run. */
  async close(): Promise<void> {
    await this.bull.close()
    await this.gateway.close()
    await this.heartbeat.close()
  }

  /** Aborts a call if it runs here. */
  abort(jobId: string): boolean {
    return this.bull.cancelJob(jobId, 'CALL_CANCELLED')
  }

  private async process(job: Job, token: string, signal: AbortSignal): Promise<unknown> {
    const call = await this.ask(job)
    for (;;) {
      const { asked, decision } = await this.gateway.start(call)
      switch (decision.outcome) {
        case 'run':
          return this.run(job, token, asked, decision, signal)
        case 'hold':
          await sleep(decision.waitMs)
          break
        case 'wait':
          await job.moveToDelayed(Date.now() + delayMs(decision.etaMs), token)
          throw new DelayedError()
        case 'reject':
          throw finalFailure(rejection(decision))
      }
    }
  }

  private async ask(job: Job): Promise<Asked> {
    const { gate, estimate } = this.parts
    try {
      const call = this.options.callOf === undefined ? callOfJob(job.name, job.data) : validateCall(this.options.callOf(job))
      const tokens = call.cost?.tokens ?? (gate.needsTokens(call) ? await estimateTokens(call, estimate) : 0)
      return askFor(gate, gateId(job.queueName, job.id as string), '', call, tokens)
    } catch (error) {
      throw error instanceof TollgateError ? finalFailure(error) : error
    }
  }

  private async run(job: Job, token: string, asked: Asked, decision: RunDecision, cancelled: AbortSignal): Promise<unknown> {
    const timeoutMs = this.options.timeoutMs ?? DEFAULTS.timeoutMs
    const timeout = timeoutMs > 0 ? AbortSignal.timeout(timeoutMs) : undefined
    const signal = timeout === undefined ? cancelled : AbortSignal.any([cancelled, timeout])
    this.heartbeat.add(asked)
    try {
      signal.throwIfAborted()
      const result = await abortable(this.handler(asked.call, { id: job.id as string, signal, attempt: job.attemptsMade + 1, decision }), signal)
      this.gateway.settle(asked, { tokens: tokensOf(result) })
      return result
    } catch (error) {
      const limited = cancelled.aborted ? undefined : upstreamLimited(error)
      if (limited !== undefined) return await this.giveBack(job, token, asked, limited)
      this.gateway.settle(asked, { tokens: tokensOf(error) })
      if (cancelled.aborted) throw finalFailure(new TollgateError('CALL_CANCELLED', 'the call was cancelled while it ran', { cause: error }))
      if (timeout?.aborted === true) {
        const timedOut = new TollgateError('CALL_TIMED_OUT', `the handler did not finish within ${timeoutMs} ms`, { cause: error })
        throw failureOf(timedOut)
      }
      throw error instanceof TollgateError ? failureOf(error) : error
    } finally {
      this.heartbeat.remove(asked)
    }
  }

  /** The agent said "not now": the call goes back to the head of its line, for which no attempt is counted. */
  private async giveBack(job: Job, token: string, asked: Asked, limited: UpstreamLimited): Promise<never> {
    const retryAfterMs = Math.min(DEFAULTS.longestRetryAfterMs, Math.max(1, limited.retryAfterMs ?? DEFAULTS.retryAfterMs))
    const { blockedMs } = await this.parts.gate.announce(asked, retryAfterMs)
    this.parts.log.warn(
      { call: job.id, agent: asked.call.agent, blockedMs: Math.ceil(blockedMs) },
      'the agent asked to be left alone; the call waits at the head of its line',
    )
    await job.moveToDelayed(Date.now() + delayMs(blockedMs), token)
    throw new DelayedError()
  }
}

function tokensOf(value: unknown): number | undefined {
  const usage = usageOf(value)
  return usage === undefined ? undefined : totalTokens(usage)
}

/** Rejects as soon as the signal aborts, also where the handler does not listen to it. */
async function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  let onAbort: (() => void) | undefined
  try {
    return await Promise.race([
      work,
      new Promise<never>((_, reject) => {
        onAbort = () => reject(signal.reason)
        signal.addEventListener('abort', onAbort, { once: true })
      }),
    ])
  } finally {
    if (onAbort !== undefined) signal.removeEventListener('abort', onAbort)
  }
}

/** An error that says the agent had no room: ours, or any with the status 429 or 503. */
function upstreamLimited(error: unknown): UpstreamLimited | undefined {
  if (error instanceof UpstreamLimited) return error
  if (error === null || typeof error !== 'object' || !('status' in error) || (error.status !== 429 && error.status !== 503)) return undefined
  if (error instanceof TollgateError) return undefined
  const retryAfterMs = 'retryAfterMs' in error && typeof error.retryAfterMs === 'number' ? error.retryAfterMs : undefined
  return new UpstreamLimited({ retryAfterMs, cause: error })
}

import type { Job } from 'bullmq'
import type { Call } from '../model/call.js'
import type { DegradeDecision, RunDecision } from '../model/decision.js'
import type { HeadersLike } from '../model/upstream.js'
import type { CallUsage } from '../pricing/usage.js'
import type { WorkerObserver } from '../telemetry/observer.js'

/** What a handler gets besides the call. */
export interface CallContext {
  /** The id of the call and of its BullMQ job. */
  readonly id: string
  /** The BullMQ job of the call: its data, progress, logs, children. Undefined for a held call that started without one. */
  readonly job: Job | undefined
  /** Aborts when the call is cancelled or takes longer than `timeoutMs`; its reason is the error. */
  readonly signal: AbortSignal
  /** 1 for the first try. Waiting is no attempt. */
  readonly attempt: number
  /** When the call was charged (Redis' clock), and what its limits looked like then. */
  readonly decision: RunDecision | DegradeDecision
  /** Whether it runs in degraded mode: a graceful rule had no room for it as it was. */
  readonly degraded: boolean
  /** The model that its agent is to use in degraded mode (it is the call's `model` then); undefined where the rules name none. */
  readonly degradeTo: string | undefined
  /**
   * Reports the whole usage so far of a call that goes on (a stream). Usage above the estimate is
   * charged at once; if the call breaks off without a later report, that usage is its cost.
   */
  settlePart(usage: CallUsage): Promise<void>
  /** Reads the agent's limits from the headers of an answer (OpenAI's and Anthropic's are known). `httpAgent` calls it by itself. */
  observe(headers: HeadersLike): void
  /** Headers by which the agent goes on with the trace of the call (`traceparent`); none where no OpenTelemetry SDK is registered. */
  readonly traceHeaders: Readonly<Record<string, string>>
}

/** Makes the call. Its return value is the call's result; a `usage` in it settles the estimate. */
export interface Handler {
  (call: Call, context: CallContext): Promise<unknown>
  /** By agent, the endpoint that it sends calls to that name none: they are counted and blocked by it. */
  readonly endpoints?: Readonly<Record<string, string>>
}

/** What a user may set about a worker. */
export interface WorkerOptions {
  /** Calls that run at once; default 50. */
  concurrency?: number | undefined
  /** How long a handler may take; default 0 = without a bound. */
  timeoutMs?: number | undefined
  /** How often a call may return to its line because its agent refused it, before it fails; a call's own takes precedence. Default 10. */
  maxReturns?: number | undefined
  /** How long this worker may be silent before its calls are given to another; default 30 s. */
  leaseMs?: number | undefined
  /** The largest result, in bytes of JSON; default 1 MB. A call with a larger one fails for good. */
  maxResultBytes?: number | undefined
  /** Is called when calls of this worker start and end. */
  observer?: WorkerObserver | undefined
  /**
   * Answers a call in degraded mode instead of its agent: from a cache, say. Where it answers
   * undefined the handler is called. A call that it answers is charged to the allowance only.
   */
  fallback?: ((call: Call, context: CallContext) => unknown) | undefined
  /** Reads the call from a job that another producer added; default: its data. */
  callOf?: ((job: Job) => Call) | undefined
  /** Whether jobs that complete at the same time are completed by one script instead of BullMQ's for each; default true. */
  finishInBatches?: boolean | undefined
  /** Whether the worker does not start where the namespace has no rules; default false. */
  requireRules?: boolean | undefined
}

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
  /** Aborts when the call is cancelled or takes longer than `timeoutMs`; its reason is the error. */
  readonly signal: AbortSignal
  /** 1 for the first try. Waiting is no attempt. */
  readonly attempt: number
  /** When the call was charged (Redis' clock), and what its limits looked like then. */
  readonly decision: RunDecision | DegradeDecision
  /** Whether it runs in degraded mode: a graceful rule had no room for it as it was. */
  readonly degraded: boolean
  /** The model that its agent is to use in degraded mode (it is the call's `model` then); undefined where none was named. */
  readonly degradeTo: string | undefined
  /**
   * Says what the call has used so far, all in all, while it goes on (a stream). What exceeds
   * the estimate is charged at once; if the call breaks off without saying more, that is its cost.
   */
  settlePart(usage: CallUsage): Promise<void>
  /** Says what an answer's headers tell of the agent's limits (OpenAI's and Anthropic's are known). `httpAgent` does so by itself. */
  observe(headers: HeadersLike): void
}

/** Makes the call. What it returns is the call's result; a `usage` in it settles the estimate. */
export type Handler = (call: Call, context: CallContext) => Promise<unknown>

/** What a user may set about a worker. */
export interface WorkerOptions {
  /** Calls that run at once; default 50. */
  concurrency?: number | undefined
  /** How long a handler may take; default 0 = without a bound. */
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

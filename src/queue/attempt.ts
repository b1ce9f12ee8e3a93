import type { DegradeDecision, RunDecision } from '../model/decision.js'
import type { TollgateError } from '../model/errors.js'
import type { HeadersLike } from '../model/upstream.js'
import type { CallUsage } from '../pricing/usage.js'

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

/** What a context passes on. */
interface AttemptReports {
  settle(usage: CallUsage): Promise<void>
  observe(headers: HeadersLike): void
}

/** One call in a worker, from its job to its end; it can be ended from outside. */
export class Run {
  /** Why it was ended; undefined while it was not. */
  aborted: TollgateError | undefined
  private controller: AbortController | undefined
  private end: ((error: TollgateError) => void) | undefined

  /** Made when a handler asks for it: most never do. */
  get signal(): AbortSignal {
    this.controller ??= new AbortController()
    if (this.aborted !== undefined) this.controller.abort(this.aborted)
    return this.controller.signal
  }

  abort(error: TollgateError): void {
    if (this.aborted !== undefined) return
    this.aborted = error
    this.controller?.abort(error)
    this.end?.(error)
  }

  /** What the handler comes to, or the abort, also where the handler does not listen to the signal. */
  until(work: unknown): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.end = reject
      if (this.aborted !== undefined) reject(this.aborted)
      Promise.resolve(work).then(resolve, reject)
    })
  }
}

type ContextParts = Pick<CallContext, 'id' | 'attempt' | 'decision' | 'degraded' | 'degradeTo'>

export class Context implements CallContext {
  readonly id: string
  readonly attempt: number
  readonly decision: RunDecision | DegradeDecision
  readonly degraded: boolean
  readonly degradeTo: string | undefined
  /** What was said last. */
  usage: CallUsage | undefined
  readonly #run: Run
  readonly #said: AttemptReports

  constructor(parts: ContextParts, run: Run, said: AttemptReports) {
    this.id = parts.id
    this.attempt = parts.attempt
    this.decision = parts.decision
    this.degraded = parts.degraded
    this.degradeTo = parts.degradeTo
    this.#run = run
    this.#said = said
  }

  async settlePart(usage: CallUsage): Promise<void> {
    this.usage = usage
    await this.#said.settle(usage)
  }

  observe(headers: HeadersLike): void {
    this.#said.observe(headers)
  }

  get signal(): AbortSignal {
    return this.#run.signal
  }
}

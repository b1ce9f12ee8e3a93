import { setTimeout as sleep } from 'node:timers/promises'
import { completion, failure, type HttpAnswer, tooMany } from './answers.js'
import { readChatRequest } from './chat-request.js'
import { type Counters, newCounters } from './counters.js'
import type { Form } from './forms.js'
import { Limits } from './limits.js'
import type { AgentOptions } from './options.js'
import { seededRandom } from './random.js'

/** Answers chat requests within its own limits. */
export class Agent {
  readonly counters: Counters = newCounters()
  private readonly options: AgentOptions
  private readonly limits: Limits
  private readonly random: () => number

  constructor(options: AgentOptions) {
    this.options = options
    this.limits = new Limits(options, performance.now())
    this.random = seededRandom(options.seed)
  }

  /** Answers a request in the form of one API. */
  async answer(form: Form, body: string): Promise<HttpAnswer> {
    const id = ++this.counters.requests
    const request = readChatRequest(body, this.options.defaultMaxTokens)
    if (request === null) {
      this.counters.invalid++
      return failure(400, 'invalid_request_error', null, "the body must be a JSON object with an array 'messages', or an 'input'", form)
    }
    // As large providers do: the largest possible usage is reserved at once, and the rest is put back later.
    const reserved = request.promptTokens + request.maxTokens
    const refusal = this.limits.take(reserved, performance.now())
    if (refusal !== null) {
      this.counters.tooMany++
      return this.withLimits(tooMany(refusal, form))
    }
    const completionTokens = form === 'embeddings' ? 0 : (request.completionTokens ?? Math.ceil(this.random() * request.maxTokens))
    const latencyMs = this.latencyMs()
    // The first event of a stream comes at once.
    if (!request.stream) await sleep(latencyMs)
    this.limits.settle(reserved, request.promptTokens + completionTokens, performance.now())
    this.counters.answered++
    this.counters.promptTokens += request.promptTokens
    this.counters.completionTokens += completionTokens
    return this.withLimits(completion(form, id, request, completionTokens, latencyMs))
  }

  private latencyMs(): number {
    const { latencyMs, jitterMs } = this.options
    return Math.max(0, latencyMs + (this.random() * 2 - 1) * jitterMs)
  }

  private withLimits(answer: HttpAnswer): HttpAnswer {
    return { ...answer, headers: { ...answer.headers, ...this.limits.headers(performance.now()) } }
  }
}

import type { IncomingHttpHeaders } from 'node:http'
import { type AnswerReader, estimatedInput, readerOf, StreamReader, WholeReader } from '../../agents/answer-reader.js'
import { type InboundRequest, outboundBody } from '../../agents/inbound.js'
import { rateLimitFields } from '../../middleware/rate-limit-fields.js'
import type { Call } from '../../model/call.js'
import { TollgateError, UpstreamLimited } from '../../model/errors.js'
import { SECOND } from '../../model/time.js'
import type { CallUsage } from '../../pricing/usage.js'
import type { CallContext } from '../../queue/handler.js'
import type { HeldCalls } from '../../queue/held-calls.js'
import { inTraceOf } from '../../telemetry/tracing.js'
import type { Tollgate } from '../../tollgate.js'
import { isFinalAnswer, isRefusal } from '../../upstream/refusals.js'
import type { ServerSettings } from '../server-settings.js'
import { type AgentClient, addAnsweredHeaders } from './agent-client.js'
import type { AnswerSource } from './answer-source.js'
import { AnswerStream } from './answer-stream.js'
import { clientRefusal } from './refusal.js'

/** After this time of waiting a client of a stream gets the first comment. */
const FIRST_COMMENT_MS = 500
/** So much of an agent's refusal is read, in bytes. */
const LONGEST_WORDS = 65_536
/** What a call has used that the agent did not take. */
const NONE: CallUsage = { tokens: 0, inputTokens: 0, outputTokens: 0, usd: 0 }

export interface ExchangeParts {
  readonly tollgate: Tollgate
  readonly held: HeldCalls
  readonly client: AgentClient
  readonly settings: ServerSettings
}

/**
 * One request of a client to an agent, from its admission to the end of its answer.
 *
 *     waiting ── room ──▶ at the agent ── headers ──▶ answering ──▶ ended, settled by the usage that was read
 *      │  │  ▲                 │                          │
 *      │  │  └── 429, 503, 529 ┘                          └── client gone: drained up to `drainMs`, then aborted; settled by what was seen
 *      │  └── client gone, server closing: out of the line, nothing charged
 *      └── refused, expired, cancelled: in the shape of the agent's own errors
 *
 * If the process dies the client's connection breaks, and the call is given up as any held call (`HeldCalls`).
 */
export class Exchange {
  readonly answer: AnswerStream
  private id: string | undefined
  /** Why no client waits any more; undefined while one does. */
  private gone: TollgateError | undefined
  /** Takes the call out of its line. */
  private leaveLine: ((reason: unknown) => void) | undefined
  /** What the agent answers, as far as it was asked. */
  private asked: AnswerSource | undefined
  private reader: AnswerReader | undefined
  private leaving: NodeJS.Timeout | undefined
  private comments: NodeJS.Timeout | undefined
  private running = false
  /** Whether the agent has answered to the end. */
  private answered = false

  /** @param joinable whether clients may join, and come back */
  constructor(
    private readonly parts: ExchangeParts,
    private readonly inbound: InboundRequest,
    private readonly ownKey: IncomingHttpHeaders,
    private readonly joinable: boolean,
  ) {
    const { replayBytes, stallMs } = parts.settings
    this.answer = new AnswerStream(joinable ? replayBytes : 0, stallMs, () => this.deserted())
  }

  get wasAnswered(): boolean {
    return this.answered
  }

  /** Makes the call and answers it; never throws. */
  async run(call: Call): Promise<void> {
    try {
      await inTraceOf(this.inbound.headers, () =>
        this.parts.held.run(call, (admitted, context) => this.make(admitted, context), {
          waiting: (id, leave) => this.waiting(id, leave),
        }),
      )
    } catch (error) {
      if (!this.answer.hasEnded) this.answer.refuse(clientRefusal(this.parts.client.api, error, this.id), this.idHeader())
    } finally {
      clearTimeout(this.comments)
      clearTimeout(this.leaving)
    }
  }

  /** The server closes: a call that waits leaves its line, and its client is told to come again. */
  sendAway(): void {
    if (!this.running) this.leave(new TollgateError('SERVER_BUSY', 'the server is closing'))
  }

  /** Another client, or the same again, waits for the answer. */
  joined(): void {
    clearTimeout(this.leaving)
    this.leaving = undefined
  }

  private idHeader(): Record<string, string> {
    return this.id === undefined ? {} : { 'x-tollgate-call': this.id }
  }

  /** The call waits in line: its client gets comments meanwhile, where it reads a stream. */
  private waiting(id: string, leave: (reason: unknown) => void): void {
    this.id = id
    this.running = false
    this.leaveLine = leave
    if (this.gone !== undefined) {
      leave(this.gone)
      return
    }
    if (!this.inbound.streams) return
    const comment = async () => {
      const { state, position, etaMs } = await this.parts.tollgate.explain(id)
      if (state === 'waiting' && !this.running) this.answer.comment(waitingText(position, etaMs))
    }
    const next = (afterMs: number) => {
      clearTimeout(this.comments)
      this.comments = setTimeout(() => {
        comment()
          .catch(() => {})
          .finally(() => {
            if (!this.answer.hasEnded && !this.running) next(this.parts.settings.heartbeatMs)
          })
      }, afterMs)
    }
    next(Math.min(FIRST_COMMENT_MS, this.parts.settings.heartbeatMs))
  }

  /** The last client is gone. */
  private deserted(): void {
    const { rejoinMs, drainMs } = this.parts.settings
    const leave = () => {
      this.leave(new TollgateError('CALL_CANCELLED', 'the client is gone'))
      if (!this.running) return
      if (drainMs === 0) this.abortAgent()
      else setTimeout(() => this.abortAgent(), drainMs).unref()
    }
    this.leaving = this.joinable && rejoinMs > 0 ? setTimeout(leave, rejoinMs) : undefined
    if (this.leaving === undefined) leave()
  }

  /** No client waits any more: the call leaves its line, or ends at its start. */
  private leave(reason: TollgateError): void {
    this.gone ??= reason
    this.leaveLine?.(this.gone)
  }

  private abortAgent(): void {
    this.asked?.abort(new Error('no client waits for the answer'))
  }

  /** The call is cancelled while it runs: its attempt ends at once, so it is settled by what was seen. */
  private cancelled(context: CallContext, inputTokens: number): void {
    if (this.reader !== undefined) void context.settlePart(this.reader.roughUsage(inputTokens) ?? {}).catch(() => {})
    this.abortAgent()
  }

  /** Sends the request to the agent, and passes its answer on. @returns what the call is settled by */
  private async make(call: Call, context: CallContext): Promise<{ usage?: CallUsage }> {
    const { client, settings } = this.parts
    if (this.gone !== undefined) return { usage: { ...NONE, requests: 0 } }
    this.id = context.id
    this.running = true
    clearTimeout(this.comments)
    const inputTokens = estimatedInput(call)
    context.signal.addEventListener('abort', () => this.cancelled(context, inputTokens), { once: true })
    try {
      const body = outboundBody(this.inbound, context.degraded ? context.degradeTo : undefined)
      const { method, target, headers } = this.inbound
      const answer = client.send(method, target, { ...headers, ...context.traceHeaders }, body, this.ownKey)
      this.asked = answer
      await answer.begun
      const { status, headers: answered } = answer
      if (isRefusal(status)) {
        const words = await answer.beginning(LONGEST_WORDS)
        // Waiting does not help: the client gets the agent's own words.
        if (isFinalAnswer(status, answered as Record<string, string>, words.toString('utf8')))
          return await this.pass(status, answered, words, context, inputTokens)
        throw new UpstreamLimited({ headers: answered as Record<string, string>, message: `${call.agent} answered ${status}` })
      }
      context.observe(answered as Record<string, string>)
      if (status >= 500 && context.attempt < settings.attempts && !this.answer.hasBegun) {
        await answer.beginning(LONGEST_WORDS)
        throw Object.assign(new TollgateError('UPSTREAM_FAILED', `${call.agent} answered ${status}`), { usage: NONE })
      }
      return await this.pass(status, answered, answer, context, inputTokens)
    } catch (error) {
      if (error instanceof TollgateError) throw error
      // Its client left before the answer began: what the agent was sent it may have read.
      if (this.gone !== undefined) return { usage: { inputTokens, outputTokens: 0 } }
      throw Object.assign(new TollgateError('UPSTREAM_FAILED', `${call.agent} could not be reached (${codeOf(error)})`), { usage: NONE })
    }
  }

  /** @param from the agent's answer; or all of its body, where that was read */
  private async pass(
    status: number,
    headers: IncomingHttpHeaders,
    from: AnswerSource | Buffer,
    context: CallContext,
    inputTokens: number,
  ): Promise<{ usage?: CallUsage }> {
    const reader = readerOf(headers['content-type'] ?? '', headers['content-encoding'], this.inbound.addsUsage)
    this.reader = reader
    const { client } = this.parts
    try {
      if (this.answer.hasBegun && status >= 400) return await this.passFailure(status, from, inputTokens)
      if (!this.answer.hasBegun) this.answer.begin(status, this.answerHeaders(headers, reader, context), reader instanceof StreamReader)
      const push = (part: Buffer) => reader.push(status < 400 ? part : client.withoutKey(part))
      const parts = Buffer.isBuffer(from) ? [from] : from.whole()
      let last: Uint8Array | undefined
      if (parts?.length === 1) last = push(parts[0] as Buffer)
      else await readAll(from, (part) => this.answer.write(push(part)))
      this.answered = status < 400
      const rest = reader.end()
      this.answer.end(last === undefined ? rest : rest.length === 0 ? last : Buffer.concat([last, rest]))
    } catch {
      // The agent broke off, its client left, or the call was cancelled.
      if (context.signal.aborted) this.answer.refuse(clientRefusal(client.api, context.signal.reason, this.id), {})
      else this.answer.cut()
    } finally {
      this.reader = undefined
    }
    const usage = await reader.usage(inputTokens)
    if (usage === undefined && status >= 400 && status < 500) return { usage: NONE }
    return usage === undefined ? {} : { usage }
  }

  /** The agent fails a call whose client is answered by a stream already: the failure is an event of it. */
  private async passFailure(status: number, from: AnswerSource | Buffer, inputTokens: number): Promise<{ usage?: CallUsage }> {
    const reader = new WholeReader()
    const chunks: Buffer[] = []
    await readAll(from, (part) => {
      reader.push(part)
      if (chunks.length < 64) chunks.push(part)
    })
    reader.end()
    const text = this.parts.client
      .withoutKey(Buffer.concat(chunks))
      .toString('utf8')
      .replace(/\s*[\r\n]+\s*/g, ' ')
    this.answer.end(Buffer.from(this.parts.client.api === 'anthropic' ? `event: error\ndata: ${text}\n\n` : `data: ${text}\n\n`))
    const usage = await reader.usage(inputTokens)
    return usage === undefined ? (status < 500 ? { usage: NONE } : {}) : { usage }
  }

  private answerHeaders(headers: IncomingHttpHeaders, reader: AnswerReader, { decision }: CallContext): Record<string, string | string[]> {
    const answered: Record<string, string | string[]> = rateLimitFields({ allowed: true, usage: decision.usage, retryAfterMs: 0 })
    addAnsweredHeaders(headers, answered)
    if (this.id !== undefined) answered['x-tollgate-call'] = this.id
    if (!(reader instanceof StreamReader)) return answered
    // Events are taken out of a stream: its length is not the agent's.
    delete answered['content-length']
    answered['x-accel-buffering'] = 'no'
    return answered
  }
}

async function readAll(from: AnswerSource | Buffer, take: (part: Buffer) => Promise<void> | undefined | void): Promise<void> {
  if (Buffer.isBuffer(from)) await take(from)
  else await from.read(take)
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'no answer'
}

function waitingText(position: number | null, etaMs: number | null): string {
  return `waiting${position === null ? '' : `, position ${position + 1}`}${etaMs === null ? '' : `, ${Math.ceil(etaMs / SECOND)} s`}`
}

import { createHash } from 'node:crypto'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Logger } from 'pino'
import { Agent, type Dispatcher } from 'undici'
import { type InboundRequest, readInbound, targetOf } from '../../agents/inbound.js'
import { tollgateError } from '../../middleware/problem.js'
import type { Call } from '../../model/call.js'
import { RequestInvalid, TollgateError } from '../../model/errors.js'
import { withoutArguments } from '../../model/secrets.js'
import { SECOND } from '../../model/time.js'
import type { AgentSpec } from '../../policy/rule.js'
import type { HeldCalls } from '../../queue/held-calls.js'
import type { Tollgate } from '../../tollgate.js'
import type { Access } from '../access.js'
import { preferredWaitMs } from '../routes/calls.js'
import type { Seats } from '../seats.js'
import type { ServerSettings } from '../server-settings.js'
import { AgentClient, addAnsweredHeaders } from './agent-client.js'
import { AnswerSource } from './answer-source.js'
import { AnswerStream } from './answer-stream.js'
import { Exchange } from './exchange.js'
import { type Identity, identify } from './identity.js'
import { type Holder, type Joinable, Joinables } from './joinables.js'
import { clientRefusal } from './refusal.js'

export interface PassThroughParts {
  readonly tollgate: Tollgate
  readonly held: HeldCalls
  readonly settings: ServerSettings
  readonly access: Access
  readonly seats: Seats
  readonly log: Logger
  readonly agents: Readonly<Record<string, AgentSpec>>
  readonly environment: NodeJS.ProcessEnv
}

/** A refusal for want of time has to arrive before its client gives up. */
const BEFORE_TIMEOUT_MS = SECOND
/** Names the call that a request of another server joins; in an answer: 'unknown'. */
const JOIN_HEADER = 'x-tollgate-join'
/** So many processes may turn out to be gone before a request is refused. */
const MOST_HOLDERS = 5
/** The headers that a request takes along to the server that makes its call. */
const TAKEN_ALONG = ['content-type', 'accept'] as const

/** Not TRACE: an agent that answers with the request it got would answer with its key. */
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const

/** How long the client waits for the start of its call: its own time-out, as clients of OpenAI and Anthropic send it, or `Prefer: wait=`. */
function patienceOf(request: FastifyRequest, defaultMs: number): number {
  const stainless = Number(request.headers['x-stainless-timeout'] ?? Number.NaN)
  const given = preferredWaitMs(request) ?? (stainless > 0 ? stainless * SECOND : defaultMs)
  return Math.max(1, given > 2 * BEFORE_TIMEOUT_MS ? given - BEFORE_TIMEOUT_MS : given)
}

function digestOf({ method, target, body }: InboundRequest): string {
  return createHash('sha256').update(`${method} ${target}\n`).update(body).digest('base64')
}

/** Requests of clients of agents, which pass the gate on their way: /agents/<agent>/<path at the agent>. */
export class PassThrough {
  private readonly clients: ReadonlyMap<string, AgentClient>
  /** By identity, agent and idempotency key: calls that wait, run, or have ended a short while ago. */
  private readonly joinables: Joinables
  /** To other servers of the namespace. */
  private readonly servers: Agent
  private readonly running = new Map<Promise<void>, Exchange>()

  /** @throws ConfigInvalid where the key of an agent is missing */
  constructor(private readonly parts: PassThroughParts) {
    const { agents, environment, settings } = parts
    this.joinables = new Joinables(parts.held, parts.log)
    this.servers = new Agent({ headersTimeout: 0, bodyTimeout: 0 })
    this.clients = new Map(Object.entries(agents).map(([name, spec]) => [name, new AgentClient(name, spec, environment, settings.headersTimeoutMs)]))
  }

  register(app: FastifyInstance): void {
    void app.register((scope, _options, registered) => {
      scope.removeAllContentTypeParsers()
      scope.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
      scope.setErrorHandler((error, request, reply) => this.refuse(error, request, reply))
      scope.route({
        method: [...METHODS],
        url: '/agents/:agent/*',
        handler: (request, reply) => this.handle(request as FastifyRequest<{ Params: { agent: string } }>, reply),
      })
      registered()
    })
  }

  /** @param address where other servers of the namespace reach this one */
  reachedAt(address: string): void {
    this.joinables.address = address
  }

  /** Sends clients that wait away, lets what runs end, then closes the connections to agents. */
  async close(): Promise<void> {
    for (const exchange of this.running.values()) exchange.sendAway()
    await Promise.all(this.running.keys())
    this.joinables.close()
    await this.servers.destroy()
    await Promise.all([...this.clients.values()].map((client) => client.close()))
  }

  private async handle(request: FastifyRequest<{ Params: { agent: string } }>, reply: FastifyReply): Promise<void> {
    const { tollgate, settings, access } = this.parts
    const { agent } = request.params
    const client = this.clients.get(agent)
    if (client === undefined) throw new TollgateError('ROUTE_UNKNOWN', 'no agent of that name is configured')
    const token = request.headers[JOIN_HEADER]
    const joined = typeof token === 'string' ? await this.callOfToken(token, reply) : undefined
    // A request of another server comes for a client that was identified there.
    const identity = joined === undefined ? await identify(access, tollgate.keys, request.headers, request.ip, agent) : undefined
    const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0)
    const given = { method: request.method, target: targetOf(request.raw.url ?? ''), headers: request.headers, body }
    const inbound = readInbound(agent, given, settings.outputTokens)
    if (joined !== undefined) return this.join(joined, digestOf(inbound), reply)
    const { of, ownKey, name } = identity as Identity
    const key = this.joinKey(request, name, agent)
    const make = () => new Exchange({ tollgate, held: this.parts.held, client, settings }, inbound, ownKey, key !== undefined)
    const call = { ...inbound.call, ...of, maxWaitMs: patienceOf(request, client.patienceMs ?? settings.patienceMs) }
    if (key === undefined) return this.begin(make(), call, reply, undefined)
    const digest = digestOf(inbound)
    let instead = ''
    for (let n = 0; n < MOST_HOLDERS; n++) {
      const taken = await this.joinables.take(key, () => ({ exchange: make(), digest }), instead)
      if ('here' in taken) {
        if (!taken.isNew) return this.join(taken.here, digest, reply)
        return this.begin(taken.here.exchange, call, reply, key)
      }
      if (await this.passOn(taken.elsewhere, inbound, reply)) return
      instead = taken.elsewhere.note
      this.parts.log.warn({ server: taken.elsewhere.at }, 'the server that made a call could not be reached, or knows it no more; the call is made anew')
    }
    throw new TollgateError('SERVER_BUSY', 'the servers that made this call are gone')
  }

  /** Makes a call for its first client. */
  private begin(exchange: Exchange, call: Call, reply: FastifyReply, key: string | undefined): void {
    try {
      this.attach(exchange.answer, reply)
    } catch (error) {
      if (key !== undefined) this.joinables.forget(key, exchange)
      throw error
    }
    const ended = exchange.run(call).finally(() => {
      this.running.delete(ended)
      if (key !== undefined) this.forgetLater(key, exchange)
    })
    this.running.set(ended, exchange)
  }

  private join({ exchange, digest }: Joinable, own: string, reply: FastifyReply): void {
    if (digest !== own) throw new RequestInvalid(`${this.parts.settings.idempotencyHeader}: was used for another request`)
    this.attach(exchange.answer, reply)
    exchange.joined()
  }

  /** Another server of the namespace has a client for a call that is made here. The token stands for that client's right to the call. @throws ROUTE_UNKNOWN */
  private async callOfToken(token: string, reply: FastifyReply): Promise<Joinable> {
    const known = await this.joinables.ofToken(token)
    if (known !== undefined) return known
    reply.header(JOIN_HEADER, 'unknown')
    throw new TollgateError('ROUTE_UNKNOWN', 'the call is not, or no more, made here')
  }

  /** Passes a request on to the server that makes its call. @returns false where that server cannot be reached, or knows the call no more */
  private async passOn({ at, token }: Holder, { method, target, headers, body, call }: InboundRequest, reply: FastifyReply): Promise<boolean> {
    const sent: Record<string, string> = { [JOIN_HEADER]: token }
    for (const name of TAKEN_ALONG) if (headers[name] !== undefined) sent[name] = headers[name]
    const leave = this.seat(reply)
    const source = new AnswerSource()
    const path = `/agents/${encodeURIComponent(call.agent)}${target}`
    this.servers.dispatch({ origin: at, method: method as Dispatcher.HttpMethod, path, headers: sent, body: body.length === 0 ? null : body }, source)
    const gone = () => source.abort(new Error('the client is gone'))
    reply.raw.once('close', gone)
    try {
      await source.begun
    } catch {
      leave()
      return reply.raw.destroyed
    } finally {
      reply.raw.off('close', gone)
    }
    if (source.headers[JOIN_HEADER] === 'unknown') {
      source.abort(new Error('the answer is not needed'))
      leave()
      return false
    }
    const answer = new AnswerStream(0, this.parts.settings.stallMs, gone)
    answer.attach(reply.raw)
    reply.hijack()
    const answered: Record<string, string | string[]> = {}
    addAnsweredHeaders(source.headers, answered)
    answer.begin(source.status, answered, source.headers['content-length'] === undefined)
    await source
      .read((part) => answer.write(part))
      .then(
        () => answer.end(),
        () => answer.cut(),
      )
    return true
  }

  /** @returns what gives the seat back before the client is gone. @throws SERVER_BUSY */
  private seat({ raw }: FastifyReply): () => void {
    if (raw.destroyed) throw new TollgateError('CALL_CANCELLED', 'the client is gone')
    const leave = this.parts.seats.take()
    raw.once('close', leave)
    return leave
  }

  /** Gives an answer another client, which takes a seat until it is gone. */
  private attach(answer: AnswerStream, reply: FastifyReply): void {
    const leave = this.seat(reply)
    try {
      answer.attach(reply.raw)
    } catch (error) {
      leave()
      throw error
    }
    reply.hijack()
  }

  private joinKey(request: FastifyRequest, identity: string, agent: string): string | undefined {
    const given = request.headers[this.parts.settings.idempotencyHeader]
    if (typeof given !== 'string' || given === '') return undefined
    // Quoted as a structured field, or bare: the same key.
    const key = given.replace(/^"(.*)"$/s, '$1')
    if (key.length > 256) throw new RequestInvalid(`${this.parts.settings.idempotencyHeader}: must have at most 256 characters`)
    return JSON.stringify([identity, agent, key])
  }

  /** An answer is given again for a while; a refusal is not: the client's next try may pass. */
  private forgetLater(key: string, exchange: Exchange): void {
    const forget = () => this.joinables.forget(key, exchange)
    if (exchange.wasAnswered && exchange.answer.isWhole) setTimeout(forget, this.parts.settings.replayMs).unref()
    else forget()
  }

  private refuse(given: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
    const error = tollgateError(given)
    if (error.code === 'SERVER_FAILED') this.parts.log.error({ err: withoutArguments(given) }, 'a request to an agent failed')
    const { agent = '' } = (request.params ?? {}) as { agent?: string }
    const { status, headers, body } = clientRefusal(this.clients.get(agent)?.api ?? 'openai', error, undefined)
    return reply.code(status).headers(headers).send(Buffer.from(body))
  }
}

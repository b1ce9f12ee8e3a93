import { createHash } from 'node:crypto'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Logger } from 'pino'
import { readInbound, targetOf } from '../../agents/inbound.js'
import { tollgateError } from '../../middleware/problem.js'
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
import { AgentClient } from './agent-client.js'
import { Exchange } from './exchange.js'
import { identify } from './identity.js'
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
const MOST_JOINABLE = 10_000

/** Not TRACE: an agent that answers with the request it got would answer with its key. */
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const

interface Joinable {
  readonly exchange: Exchange
  /** Of method, address and body: another request under the same key is a mistake of its client. */
  readonly digest: string
}

/** How long the client waits for the start of its call: its own time-out, as clients of OpenAI and Anthropic send it, or `Prefer: wait=`. */
function patienceOf(request: FastifyRequest, defaultMs: number): number {
  const stainless = Number(request.headers['x-stainless-timeout'] ?? Number.NaN)
  const given = preferredWaitMs(request) ?? (stainless > 0 ? stainless * SECOND : defaultMs)
  return Math.max(1, given > 2 * BEFORE_TIMEOUT_MS ? given - BEFORE_TIMEOUT_MS : given)
}

/** Requests of clients of agents, which pass the gate on their way: /agents/<agent>/<path at the agent>. */
export class PassThrough {
  private readonly clients: ReadonlyMap<string, AgentClient>
  /** By identity, agent and idempotency key: calls that wait, run, or have ended a short while ago. */
  private readonly joinable = new Map<string, Joinable>()
  private readonly running = new Map<Promise<void>, Exchange>()

  /** @throws ConfigInvalid where the key of an agent is missing */
  constructor(private readonly parts: PassThroughParts) {
    const { agents, environment, settings } = parts
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

  /** Sends clients that wait away, lets what runs end, then closes the connections to agents. */
  async close(): Promise<void> {
    for (const exchange of this.running.values()) exchange.sendAway()
    await Promise.all(this.running.keys())
    await Promise.all([...this.clients.values()].map((client) => client.close()))
  }

  private async handle(request: FastifyRequest<{ Params: { agent: string } }>, reply: FastifyReply): Promise<void> {
    const { tollgate, held, settings, access, seats } = this.parts
    const { agent } = request.params
    const client = this.clients.get(agent)
    if (client === undefined) throw new TollgateError('ROUTE_UNKNOWN', 'no agent of that name is configured')
    const { of, name, ownKey } = await identify(access, tollgate.keys, request.headers, request.ip, agent)
    const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0)
    const given = { method: request.method, target: targetOf(request.raw.url ?? ''), headers: request.headers, body }
    const inbound = readInbound(agent, given, settings.outputTokens)
    const key = this.joinKey(request, name, agent)
    const digest = key === undefined ? '' : createHash('sha256').update(`${inbound.method} ${inbound.target}\n`).update(body).digest('base64')
    const known = key === undefined ? undefined : this.joinable.get(key)
    if (known !== undefined && known.digest !== digest) throw new RequestInvalid(`${settings.idempotencyHeader}: was used for another request`)
    const joins = known !== undefined && (known.exchange.answer.isWhole || !known.exchange.answer.hasEnded)
    const exchange = joins ? known.exchange : new Exchange({ tollgate, held, client, settings }, inbound, ownKey, key !== undefined)
    const leave = seats.take()
    reply.raw.once('close', leave)
    try {
      exchange.answer.attach(reply.raw)
    } catch (error) {
      leave()
      throw error
    }
    reply.hijack()
    if (joins) return exchange.joined()
    if (key !== undefined) this.remember(key, { exchange, digest })
    const ended = exchange.run({ ...inbound.call, ...of, maxWaitMs: patienceOf(request, client.patienceMs ?? settings.patienceMs) }).finally(() => {
      this.running.delete(ended)
      if (key !== undefined) this.forgetLater(key, exchange)
    })
    this.running.set(ended, exchange)
  }

  private joinKey(request: FastifyRequest, identity: string, agent: string): string | undefined {
    const given = request.headers[this.parts.settings.idempotencyHeader]
    if (typeof given !== 'string' || given === '') return undefined
    // Quoted as a structured field, or bare: the same key.
    const key = given.replace(/^"(.*)"$/s, '$1')
    if (key.length > 256) throw new RequestInvalid(`${this.parts.settings.idempotencyHeader}: must have at most 256 characters`)
    return JSON.stringify([identity, agent, key])
  }

  private remember(key: string, joinable: Joinable): void {
    // The oldest goes: its client is the likeliest to be gone.
    if (this.joinable.size >= MOST_JOINABLE) this.joinable.delete(this.joinable.keys().next().value as string)
    this.joinable.set(key, joinable)
  }

  /** An answer is given again for a while; a refusal is not: the client's next try may pass. */
  private forgetLater(key: string, exchange: Exchange): void {
    const forget = () => {
      if (this.joinable.get(key)?.exchange === exchange) this.joinable.delete(key)
    }
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

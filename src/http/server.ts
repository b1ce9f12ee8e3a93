import type { Socket } from 'node:net'
import { networkInterfaces } from 'node:os'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import type { Logger } from 'pino'
import { problemOf, retryAfterSeconds, tollgateError } from '../middleware/problem.js'
import { TollgateError } from '../model/errors.js'
import { withoutArguments } from '../model/secrets.js'
import { SECOND } from '../model/time.js'
import type { AgentSpec } from '../policy/rule.js'
import { countTokens } from '../pricing/tokenizer.js'
import { MemoryStore } from '../store/memory/memory-store.js'
import { Tollgate } from '../tollgate.js'
import { Access } from './access.js'
import { openApi } from './openapi.js'
import { PassThrough } from './passthrough/passthrough.js'
import { handleRoute, type Route } from './route.js'
import { callRoutes } from './routes/calls.js'
import { gateRoutes } from './routes/gate.js'
import { healthRoutes } from './routes/health.js'
import { keyRoutes } from './routes/keys.js'
import { meterRoutes } from './routes/meters.js'
import { policyRoutes } from './routes/policy.js'
import { statusRoutes } from './routes/status.js'
import { waitingRoutes } from './routes/waiting.js'
import { Seats } from './seats.js'
import type { ServerSettings } from './server-settings.js'
import type { Session } from './session.js'

export interface ServerParts {
  readonly tollgate: Tollgate
  readonly settings: ServerSettings
  readonly log: Logger
  readonly version: string
  /** The agents to pass requests on to, by name. */
  readonly agents: Readonly<Record<string, AgentSpec>>
  /** Where the API keys of agents are read. */
  readonly environment: NodeJS.ProcessEnv
  /** Adds pages beside the routes. */
  readonly pages?: Pages | undefined
}

/** What pages are made of. */
export interface PageParts {
  readonly tollgate: Tollgate
  readonly access: Access
  readonly seats: Seats
  readonly log: Logger
  readonly version: string
}

/** Registers pages at a server. Their routes have `config: { page: true }` where links of other sites may open them. @returns what closes them */
export type Pages = (app: FastifyInstance, parts: PageParts) => Promise<() => Promise<void>>

/** How long a request may take to arrive. */
const REQUEST_TIMEOUT_MS = 60 * SECOND
/** Longer than clients keep idle connections. */
const KEEP_ALIVE_MS = 75 * SECOND

/** Answers a request that is no HTTP, and closes its connection: what follows on it could be read as another request. */
function refuseMalformed(error: { code?: string }, socket: Socket): void {
  if (socket.destroyed || !socket.writable) return
  const status =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? '431 Request Header Fields Too Large'
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? '408 Request Timeout'
        : '400 Bad Request'
  const body = JSON.stringify(problemOf(new TollgateError('REQUEST_INVALID', 'request: is no HTTP request that this server reads')))
  socket.end(`HTTP/1.1 ${status}\r\nContent-Type: application/problem+json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`)
}

/** Where other machines reach this one; of a server that listens at all addresses its first one. */
function ownAddress(host: string, port: string): string {
  const all = host === '0.0.0.0' || host === '::'
  const [first] = Object.values(networkInterfaces()).flatMap((addresses) => (addresses ?? []).filter(({ internal, family }) => !internal && family === 'IPv4'))
  const named = all ? (first?.address ?? '127.0.0.1') : host
  return `http://${named.includes(':') ? `[${named}]` : named}:${port}`
}

/** Tollgate over HTTP: every route is a thin front over a verb of the library. */
export class Server {
  readonly app: FastifyInstance
  private readonly seats: Seats
  private readonly access: Access
  private passThrough: PassThrough | undefined
  private closePages: (() => Promise<void>) | undefined
  /** Limits the requests that this server takes, in its own memory. */
  private guard: Tollgate | undefined

  /** @throws ConfigInvalid */
  constructor(private readonly parts: ServerParts) {
    const { settings } = parts
    this.access = new Access(settings)
    this.seats = new Seats(settings.maxHeld)
    this.app = Fastify({
      logger: false,
      bodyLimit: settings.maxBodyBytes,
      requestTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
      http: { maxHeaderSize: settings.maxHeaderBytes },
      forceCloseConnections: 'idle',
      routerOptions: { maxParamLength: 512 },
      clientErrorHandler: (error, socket) => refuseMalformed(error, socket),
    })
  }

  /** How many clients are held now. */
  get held(): number {
    return this.seats.count
  }

  /** Listens. @returns the address */
  async start(): Promise<string> {
    const { app, parts, access } = this
    const { settings, tollgate, log, version } = parts
    this.guard = await Tollgate.open({ store: new MemoryStore(), logger: log })
    // It dispatches the lines, too.
    const held = tollgate.hold()
    this.passThrough = new PassThrough({ ...parts, held, access, seats: this.seats })
    this.passThrough.register(app)
    const own = this.guard.limiter({ requests: settings.maxRequestsPerSecond, per: 'second' })
    app.addHook('onRequest', async (request, reply) => {
      reply.headers({ 'x-content-type-options': 'nosniff', 'cache-control': 'no-store' })
      const { page } = request.routeOptions.config as { page?: boolean }
      access.checkOrigin(request.headers, page === true && request.method === 'GET')
      const { allowed, retryAfterMs } = await own.check('all')
      if (allowed) return
      reply.header('retry-after', retryAfterSeconds(retryAfterMs ?? SECOND))
      throw new TollgateError('SERVER_BUSY', `the server takes ${settings.maxRequestsPerSecond} requests a second`)
    })
    app.setErrorHandler((given, _request, reply) => {
      const error = tollgateError(given)
      if (error.code === 'SERVER_FAILED') log.error({ err: withoutArguments(given) }, 'a request failed')
      const problem = problemOf(error)
      if (problem.retryAfterMs !== undefined && !reply.hasHeader('retry-after')) reply.header('retry-after', retryAfterSeconds(problem.retryAfterMs))
      // As bytes: to a text Fastify adds a charset, which RFC 9457 does not have.
      return reply
        .code(problem.status)
        .header('content-type', 'application/problem+json')
        .send(Buffer.from(JSON.stringify(problem)))
    })
    app.removeContentTypeParser('text/plain')
    app.setNotFoundHandler(() => {
      throw new TollgateError('ROUTE_UNKNOWN', 'there is nothing at this address')
    })
    const routes = [
      ...callRoutes(tollgate, this.seats),
      ...gateRoutes(tollgate),
      ...policyRoutes(tollgate),
      ...waitingRoutes(tollgate),
      ...meterRoutes(tollgate),
      ...keyRoutes(tollgate),
      ...healthRoutes(tollgate),
      ...statusRoutes(tollgate, this.seats),
    ]
    for (const one of routes) this.add(one)
    const description = JSON.stringify(openApi(routes, version))
    app.get('/openapi.json', (_request, reply) => reply.type('application/json').send(description))
    this.closePages = await parts.pages?.(app, { tollgate, access, seats: this.seats, log, version })
    // The tokenizer takes a fifth of a second to load: not while the first clients wait.
    await countTokens([''])
    const url = await app.listen({ host: settings.host, port: settings.port })
    const address = settings.advertise ?? ownAddress(settings.host, new URL(url).port)
    access.knowHost(new URL(address).host)
    this.passThrough.reachedAt(address)
    return url
  }

  /** Takes no more requests, tells clients that wait to go, and lets what runs end. */
  async close(): Promise<void> {
    this.seats.close()
    await this.closePages?.()
    await this.passThrough?.close()
    await this.app.close()
    await this.guard?.close()
  }

  private add(one: Route): void {
    const sessions = new WeakMap<FastifyRequest, Session | undefined>()
    this.app.route({
      method: one.method,
      url: one.path.replace(/\{(\w+)\}/g, ':$1'),
      onRequest: async (request) => sessions.set(request, this.access.checkKey(request.headers, one.access, one.method)),
      handler: async (request, reply) => handleRoute(one, request, reply, sessions.get(request)),
    })
  }
}

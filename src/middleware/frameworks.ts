import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Tollgate } from '../tollgate.js'
import { type LimitOptions, RequestGate } from './request-gate.js'

function plainOf(request: IncomingMessage, url: string): Parameters<RequestGate<never>['pass']>[1] {
  const { method = 'GET', socket, headers } = request
  return { method, url, peer: socket.remoteAddress, forwarded: [headers['x-forwarded-for'] ?? []].flat().join(',') || undefined }
}

/** Middleware for Express 5, and for any server with `(request, response, next)`. */
export function expressLimit<Request extends IncomingMessage & { originalUrl?: string }>(
  tollgate: Tollgate,
  options: LimitOptions<Request> = {},
): (request: Request, response: ServerResponse, next: (error?: unknown) => void) => void {
  const gate = new RequestGate(tollgate, options)
  return (request, response, next) => {
    gate.pass(request, plainOf(request, request.originalUrl ?? request.url ?? '/')).then((gated) => {
      for (const [name, value] of Object.entries(gated.fields)) response.setHeader(name, value)
      if (!gated.passes) return void response.writeHead(gated.status, { 'content-type': gated.type }).end(gated.body)
      response.once('close', gated.ended)
      next()
    }, next)
  }
}

interface FastifyLike<Request> {
  addHook(name: 'onRequest', hook: (request: Request, reply: FastifyReplyLike) => Promise<unknown>): unknown
}

interface FastifyReplyLike {
  readonly raw: ServerResponse
  code(status: number): FastifyReplyLike
  headers(fields: Readonly<Record<string, string>>): FastifyReplyLike
  send(body: unknown): unknown
}

/** A plugin for Fastify 5: `app.register(fastifyLimit(tollgate, options))`. */
export function fastifyLimit<Request extends { readonly raw: IncomingMessage }>(
  tollgate: Tollgate,
  options: LimitOptions<Request> = {},
): (app: FastifyLike<Request>, pluginOptions: unknown, done: () => void) => void {
  const gate = new RequestGate(tollgate, options)
  const plugin = (app: FastifyLike<Request>, _options: unknown, done: () => void) => {
    app.addHook('onRequest', async (request, reply) => {
      const gated = await gate.pass(request, plainOf(request.raw, request.raw.url ?? '/'))
      reply.headers(gated.fields)
      if (!gated.passes) return reply.code(gated.status).headers({ 'content-type': gated.type }).send(Buffer.from(gated.body))
      reply.raw.once('close', gated.ended)
      return undefined
    })
    done()
  }
  // Its hook is for the whole app, not only for what is registered inside of it.
  return Object.assign(plugin, { [Symbol.for('skip-override')]: true })
}

interface HonoLike {
  readonly req: { readonly raw: Request; readonly path: string; readonly method: string; header(name: string): string | undefined }
  readonly env: unknown
  header(name: string, value: string): void
}

/** The address of the peer where Hono runs on Node. */
function honoPeer(env: unknown): string | undefined {
  return (env as { incoming?: IncomingMessage } | undefined)?.incoming?.socket?.remoteAddress
}

/** Middleware for Hono. On Node (`@hono/node-server`) it finds the address of the client; elsewhere `identify` has to name one. */
export function honoLimit<Context extends HonoLike>(
  tollgate: Tollgate,
  options: LimitOptions<Context> = {},
): (context: Context, next: () => Promise<void>) => Promise<Response | undefined> {
  const gate = new RequestGate(tollgate, options)
  return async (context, next) => {
    const { path: url, method } = context.req
    const gated = await gate.pass(context, { method, url, peer: honoPeer(context.env), forwarded: context.req.header('x-forwarded-for') })
    if (!gated.passes) return new Response(gated.body, { status: gated.status, headers: { ...gated.fields, 'content-type': gated.type } })
    for (const [name, value] of Object.entries(gated.fields)) context.header(name, value)
    try {
      await next()
    } finally {
      gated.ended()
    }
    return undefined
  }
}

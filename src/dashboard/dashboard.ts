import { promisify } from 'node:util'
import { gzip, gzipSync } from 'node:zlib'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { unknownHealth } from '../health/judge.js'
import type { PageParts, Pages } from '../http/server.js'
import { type Session, sessionCookie } from '../http/session.js'
import { tollgateError } from '../middleware/problem.js'
import { RequestInvalid } from '../model/errors.js'
import { ASSETS, ASSETS_VERSION } from './assets.js'
import { grantEffects, pauseEffects, resetEffects } from './effects.js'
import { Figures } from './figures.js'
import type { Body, PageModel } from './model.js'
import { askedPage, PAGE_PATHS } from './pages.js'
import { addQueues } from './queues.js'
import { renderPage } from './render.js'
import { applyRuleText, checkChange, previewChange } from './rule-change.js'
import { Snapshots } from './snapshots.js'

const zip = promisify(gzip)

/** Nothing of a page comes from elsewhere, nothing in it runs or styles but its own files, and no page of another site frames it. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
const PAGE_HEADERS = {
  'content-security-policy': POLICY,
  'referrer-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'content-type': 'text/html; charset=utf-8',
}
const TYPES: Readonly<Record<string, string>> = { js: 'text/javascript; charset=utf-8', css: 'text/css; charset=utf-8', svg: 'image/svg+xml' }
const COLOURS: Readonly<Record<string, string>> = { flowing: '#1d5fc4', slowed: '#d46f00', stopped: '#b4113f', unknown: '#545c68' }
const SHAPES: Readonly<Record<string, string>> = {
  flowing: '<circle cx="7" cy="7" r="6.5"/>',
  slowed: '<path d="M7 .8 13.8 13.2H.2Z"/>',
  stopped: '<rect x="1" y="1" width="12" height="12"/>',
  unknown: '<circle cx="7" cy="7" r="5.5" fill="none" stroke-width="2.5" stroke-dasharray="3.6 2.2"/>',
}
/** A viewer that takes nothing of its stream is let go. */
const MOST_UNSENT = 1_048_576
const RETRY_MS = 2000

/** Every page, the stream of snapshots, and what the pages ask the server for. */
export class Dashboard {
  private readonly snapshots: Snapshots
  private readonly zipped: ReadonlyMap<string, Buffer>

  constructor(
    private readonly parts: PageParts,
    private readonly figures: Figures,
    private readonly queues: boolean,
  ) {
    this.snapshots = new Snapshots(figures, parts.log)
    this.zipped = new Map(Object.entries(ASSETS).map(([name, text]) => [name, gzipSync(text, { level: 9 })]))
  }

  register(app: FastifyInstance): void {
    void app.register((scope, _options, registered) => {
      scope.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string', bodyLimit: 8192 }, (_request, body, done) =>
        done(null, Object.fromEntries(new URLSearchParams(String(body)))),
      )
      for (const path of PAGE_PATHS) this.page(scope, path)
      this.access(scope)
      this.live(scope)
      this.changes(scope)
      scope.get('/assets/:file', (request, reply) => this.asset(request, reply))
      registered()
    })
  }

  close(): Promise<void> {
    return this.snapshots.close()
  }

  private page(scope: FastifyInstance, path: string): void {
    scope.get(path, { config: { page: true } }, async (request, reply) => {
      const found = askedPage(request.url)
      const session = this.enter(request)
      if (found === null || session === 'out') return this.toLogin(request, reply)
      try {
        await this.send(reply, await this.model(found.url, found, session))
      } catch (error) {
        const { message, todo, status } = tollgateError(error)
        reply.code(status)
        await this.send(reply, this.bare({ page: 'failed', title: 'The page cannot be shown', detail: `${message}. ${todo}` }, request.url))
      }
      return reply
    })
  }

  private access(scope: FastifyInstance): void {
    const { access } = this.parts
    scope.get('/login', { config: { page: true } }, async (request, reply) => this.toLogin(request, reply, true))
    scope.post('/login', async (request, reply) => {
      const { key = '', by = '', next = '/' } = (request.body ?? {}) as Readonly<Record<string, string>>
      const session = access.signIn(key, by.trim().slice(0, 64) || 'dashboard')
      if (session === undefined) return this.send(reply.code(403), this.bare({ page: 'login', failed: true, next }, '/login'))
      reply.header('set-cookie', sessionCookie(session, request.headers['x-forwarded-proto'] === 'https'))
      return reply.redirect(askedPage(next) === null ? '/' : next, 303)
    })
    scope.post('/logout', async (request, reply) =>
      reply.header('set-cookie', sessionCookie(null, request.headers['x-forwarded-proto'] === 'https')).redirect('/login', 303),
    )
  }

  private live(scope: FastifyInstance): void {
    const { access, seats } = this.parts
    const checked = { onRequest: async (request: FastifyRequest) => void access.checkKey(request.headers, 'viewer', request.method) }
    const asked = (request: FastifyRequest) => {
      const found = askedPage((request.query as { url?: string }).url ?? '')
      if (found === null) throw new RequestInvalid('url: must be the address of a page')
      return found
    }
    scope.get('/dashboard/model', checked, async (request) => {
      const found = asked(request)
      return this.model(found.url, found, access.sessionOf(request.headers))
    })
    scope.get('/dashboard/stream', checked, (request, reply) => {
      const { url, asked: page } = asked(request)
      const leave = seats.take()
      reply.hijack()
      const { raw } = reply
      raw.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' })
      raw.write(`retry: ${RETRY_MS}\n\n`)
      const end = () => {
        stop()
        leave()
        seats.closed.removeEventListener('abort', end)
        raw.end()
      }
      const stop = this.snapshots.watch(url, page, (data) => {
        if (raw.writableLength > MOST_UNSENT) raw.destroy()
        else raw.write(`event: snapshot\ndata: ${data}\n\n`)
      })
      raw.once('close', end)
      seats.closed.addEventListener('abort', end)
    })
  }

  /** What the pages need beside the routes of the server: effects before a change, and rules as text. */
  private changes(scope: FastifyInstance): void {
    const { access } = this.parts
    const sessions = new WeakMap<FastifyRequest, Session | undefined>()
    const checked = { onRequest: async (request: FastifyRequest) => void sessions.set(request, access.checkKey(request.headers, 'admin', request.method)) }
    scope.post('/dashboard/rule-preview', checked, ({ body }) => previewChange(this.figures, checkChange(body)))
    scope.post('/dashboard/rule', checked, async (request) => ({
      name: await applyRuleText(this.figures, checkChange(request.body), sessions.get(request)?.by ?? 'dashboard'),
    }))
    const effects = { grant: grantEffects, pause: pauseEffects, reset: resetEffects }
    for (const [name, effect] of Object.entries(effects))
      scope.post(`/dashboard/${name}-effect`, checked, async ({ body }) => ({ effects: await effect(this.figures, body) }))
  }

  /** The session of a viewer; 'out' where a key is needed first. */
  private enter({ headers }: FastifyRequest): Session | undefined | 'out' {
    const { access } = this.parts
    if (!access.keyed) return undefined
    return access.sessionOf(headers) ?? 'out'
  }

  private async toLogin(request: FastifyRequest, reply: FastifyReply, byHand = false): Promise<FastifyReply> {
    const { access } = this.parts
    if (!access.keyed) return reply.redirect('/', 303)
    // A link of another site comes without the cookie: the page asks again by itself, and then has it.
    if (!byHand && request.headers['sec-fetch-site'] === 'cross-site')
      return reply.headers(PAGE_HEADERS).send('<!doctype html><meta http-equiv="refresh" content="0"><title>Tollgate</title>')
    return this.send(reply.code(byHand ? 200 : 401), this.bare({ page: 'login', failed: false, next: byHand ? '/' : request.url }, '/login'))
  }

  private async model(url: string, { asked }: NonNullable<ReturnType<typeof askedPage>>, session: Session | undefined): Promise<PageModel> {
    const snapshot = await this.snapshots.of(url, asked)
    return { ...this.bare(snapshot.body, url, session), ...snapshot }
  }

  private bare(body: Body, url: string, session?: Session): PageModel {
    const { tollgate, version, access } = this.parts
    const atMs = Date.now()
    return {
      atMs,
      health: unknownHealth('', atMs),
      body,
      url,
      namespace: tollgate.prefix,
      version,
      mayChange: !access.keyed || session?.role === 'admin',
      signedIn: session !== undefined,
      queues: this.queues,
    }
  }

  private async send(reply: FastifyReply, model: PageModel): Promise<FastifyReply> {
    const html = Buffer.from(renderPage(model, ASSETS_VERSION))
    const zips = /\bgzip\b/.test(String(reply.request.headers['accept-encoding']))
    if (zips) reply.header('content-encoding', 'gzip')
    return reply.headers({ ...PAGE_HEADERS, vary: 'accept-encoding' }).send(zips ? await zip(html, { level: 4 }) : html)
  }

  private asset(request: FastifyRequest, reply: FastifyReply): FastifyReply | Promise<FastifyReply> {
    const { file } = request.params as { file: string }
    const state = Object.keys(request.query as object)[0] ?? ''
    reply.header('cache-control', 'public, max-age=31536000, immutable')
    if (file === 'icon.svg' && Object.hasOwn(SHAPES, state))
      return reply
        .type('image/svg+xml')
        .send(
          `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 14 14" fill="${COLOURS[state]}" stroke="${state === 'unknown' ? COLOURS[state] : 'none'}">${SHAPES[state]}</svg>`,
        )
    const text = Object.hasOwn(ASSETS, file) ? ASSETS[file] : undefined
    if (text === undefined) return reply.header('cache-control', 'no-store').callNotFound() as unknown as FastifyReply
    reply.type(TYPES[file.split('.').at(-1) ?? ''] ?? 'application/octet-stream').header('vary', 'accept-encoding')
    if (!/\bgzip\b/.test(String(request.headers['accept-encoding']))) return reply.send(text)
    return reply.header('content-encoding', 'gzip').send(this.zipped.get(file))
  }
}

/** The pages of a server: see `ServerParts.pages`. @param redis where its queue is; without it there is no board of the queues */
export function dashboardPages({ redis }: { redis?: string | undefined } = {}): Pages {
  return async (app, parts) => {
    const figures = new Figures(parts.tollgate)
    const closeQueues = redis === undefined ? undefined : await addQueues(app, parts, figures, redis)
    const dashboard = new Dashboard(parts, figures, closeQueues !== undefined)
    dashboard.register(app)
    return async () => {
      await dashboard.close()
      await closeQueues?.()
    }
  }
}

import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { ConfigInvalid, TollgateError } from '../model/errors.js'
import type { ServerSettings } from './server-settings.js'
import { issueSession, type PageRole, readSession, type Session } from './session.js'

/**
 * What a request needs. open: nothing. producer: the key of a client that enqueues, checks and makes calls. viewer: a key that may see everything and
 * change nothing. admin: one that may change the policy, too.
 */
export type AccessLevel = 'open' | 'producer' | 'viewer' | 'admin'

const LOOPBACK = new Set(['localhost', '127.0.0.1', '[::1]', '::1'])

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

/** Compares digests, all of them: the time does not tell how much of a secret was right, or which one. */
function isOneOf(given: string, digests: readonly Buffer[]): boolean {
  const own = digest(given)
  let found = false
  for (const one of digests) found = timingSafeEqual(own, one) || found
  return found
}

/** The key of a request: a bearer token, or `x-api-key` as Anthropic's clients send it. */
export function requestKey(headers: IncomingHttpHeaders): string | undefined {
  const { authorization, 'x-api-key': apiKey } = headers
  const [, bearer] = /^Bearer +(\S+)$/i.exec(authorization ?? '') ?? []
  return bearer ?? (typeof apiKey === 'string' ? apiKey : undefined)
}

/** The host of a `Host` header, without its port. */
function hostOf(header: string): string {
  return header.replace(/:\d+$/, '').toLowerCase()
}

/** Who may do what at the server. */
export class Access {
  /** Whether any key is configured. Without one everyone who reaches the loopback address may do everything. */
  readonly keyed: boolean
  private readonly producers: readonly Buffer[]
  private readonly viewers: readonly Buffer[]
  private readonly admins: readonly Buffer[]
  private readonly proxy: readonly Buffer[]
  private readonly hosts: Set<string> | undefined

  /** @throws ConfigInvalid where others than this machine could reach a server without keys */
  constructor({ host, producerKeys, viewerKeys, adminKeys, proxySecret, allowedHosts }: ServerSettings) {
    this.producers = producerKeys.map(digest)
    this.viewers = viewerKeys.map(digest)
    this.admins = adminKeys.map(digest)
    this.proxy = proxySecret === undefined ? [] : [digest(proxySecret)]
    this.keyed = producerKeys.length + viewerKeys.length + adminKeys.length > 0
    if (!this.keyed && !LOOPBACK.has(host))
      throw new ConfigInvalid(
        `host: must be a loopback address where there are no producerKeys, viewerKeys or adminKeys: anyone could change the rules (got ${host})`,
      )
    const loopback = LOOPBACK.has(host) ? [...LOOPBACK] : []
    // A page of another site may have its name point to this address: it then sends that name as the host.
    if (!this.keyed || allowedHosts.length > 0) this.hosts = new Set([...loopback, ...allowedHosts.map((one) => one.toLowerCase())])
  }

  /** Other servers of the namespace reach this one under its own address. */
  knowHost(host: string): void {
    this.hosts?.add(hostOf(host))
  }

  /**
   * @param opensPage whether the request is for a page that changes nothing: a link from elsewhere may open it
   * @throws FORBIDDEN where the request comes from a page of another site
   */
  checkOrigin(headers: IncomingHttpHeaders, opensPage = false): void {
    const { host = '', origin } = headers
    if (this.hosts !== undefined && !this.hosts.has(hostOf(host)))
      throw new TollgateError('FORBIDDEN', 'the server is not known under the host of this request; name it in allowedHosts')
    const site = headers['sec-fetch-site']
    const foreign = origin !== undefined && !(URL.canParse(origin) && new URL(origin).host === host)
    const isLink = opensPage && headers['sec-fetch-mode'] === 'navigate' && headers['sec-fetch-dest'] === 'document'
    if (foreign || ((site === 'cross-site' || site === 'same-site') && !isLink))
      throw new TollgateError('FORBIDDEN', 'requests of pages of other sites are refused')
  }

  /**
   * Checks who a request is from: by its key, else by the session of its browser. A viewer may make requests that change nothing, whatever they need.
   * @returns the session, where that is what let the request in
   * @throws UNAUTHENTICATED, FORBIDDEN
   */
  checkKey(headers: IncomingHttpHeaders, level: AccessLevel, method = 'POST'): Session | undefined {
    if (level === 'open' || !this.keyed) return undefined
    const key = requestKey(headers)
    const session = key === undefined ? this.sessionOf(headers) : undefined
    if (key === undefined && session === undefined) throw new TollgateError('UNAUTHENTICATED', 'a key is needed')
    const changes = method !== 'GET' && method !== 'HEAD'
    // Browsers name the origin in every request that changes something; checkOrigin has compared it.
    if (session !== undefined && changes && headers.origin === undefined) throw new TollgateError('FORBIDDEN', 'a browser must name its origin')
    const role = session?.role ?? this.roleOf(key as string)
    if (role === undefined) throw new TollgateError('UNAUTHENTICATED', 'the key is not valid')
    if (role === 'admin' || level === role || (role === 'viewer' && !changes)) return session
    throw new TollgateError('FORBIDDEN', role === 'viewer' ? 'the key may look, and change nothing' : "an administrator's key is needed")
  }

  /** The session of the browser that a request is from. */
  sessionOf({ cookie }: IncomingHttpHeaders): Session | undefined {
    return readSession(cookie, { viewer: this.viewers, admin: this.admins }, Date.now())
  }

  /** Begins a session with a key; undefined where the key may see no pages. */
  signIn(key: string, by: string): string | undefined {
    const role = this.roleOf(key)
    return role === 'admin' || role === 'viewer' ? issueSession(digest(key), { role, by }, Date.now()) : undefined
  }

  private roleOf(key: string): PageRole | 'producer' | undefined {
    const known = [isOneOf(key, this.producers) && 'producer', isOneOf(key, this.viewers) && 'viewer', isOneOf(key, this.admins) && 'admin'] as const
    return known.findLast((role) => role !== false) || undefined
  }

  /** Whether the key is a configured one that may call agents: such a key is not passed on to them. */
  mayCall(key: string): boolean {
    return isOneOf(key, [...this.admins, ...this.producers])
  }

  /** Whether the request comes from the trusted proxy. */
  isProxy(headers: IncomingHttpHeaders): boolean {
    const secret = headers['x-tollgate-secret']
    return typeof secret === 'string' && this.proxy.length > 0 && isOneOf(secret, this.proxy)
  }
}

import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { ConfigInvalid, TollgateError } from '../model/errors.js'
import type { ServerSettings } from './server-settings.js'

/** What a request may do. open: look whether the server lives. producer: enqueue, check and make calls. admin: change the policy, too. */
export type AccessLevel = 'open' | 'producer' | 'admin'

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
  private readonly admins: readonly Buffer[]
  private readonly proxy: readonly Buffer[]
  private readonly hosts: Set<string> | undefined

  /** @throws ConfigInvalid where others than this machine could reach a server without keys */
  constructor({ host, producerKeys, adminKeys, proxySecret, allowedHosts }: ServerSettings) {
    this.producers = producerKeys.map(digest)
    this.admins = adminKeys.map(digest)
    this.proxy = proxySecret === undefined ? [] : [digest(proxySecret)]
    this.keyed = producerKeys.length + adminKeys.length > 0
    if (!this.keyed && !LOOPBACK.has(host))
      throw new ConfigInvalid(
        `host: must be a loopback address where there are neither producerKeys nor adminKeys: anyone could change the rules (got ${host})`,
      )
    const loopback = LOOPBACK.has(host) ? [...LOOPBACK] : []
    // A page of another site may have its name point to this address: it then sends that name as the host.
    if (!this.keyed || allowedHosts.length > 0) this.hosts = new Set([...loopback, ...allowedHosts.map((one) => one.toLowerCase())])
  }

  /** Other servers of the namespace reach this one under its own address. */
  knowHost(host: string): void {
    this.hosts?.add(hostOf(host))
  }

  /** @throws FORBIDDEN where the request comes from a page of another site */
  checkOrigin(headers: IncomingHttpHeaders): void {
    const { host = '', origin } = headers
    if (this.hosts !== undefined && !this.hosts.has(hostOf(host)))
      throw new TollgateError('FORBIDDEN', 'the server is not known under the host of this request; name it in allowedHosts')
    const site = headers['sec-fetch-site']
    const foreign = origin !== undefined && !(URL.canParse(origin) && new URL(origin).host === host)
    if (foreign || site === 'cross-site' || site === 'same-site') throw new TollgateError('FORBIDDEN', 'requests of pages of other sites are refused')
  }

  /** @throws UNAUTHENTICATED, FORBIDDEN */
  checkKey(headers: IncomingHttpHeaders, level: AccessLevel): void {
    if (level === 'open' || !this.keyed) return
    const key = requestKey(headers)
    if (key === undefined) throw new TollgateError('UNAUTHENTICATED', 'a key is needed')
    if (isOneOf(key, this.admins)) return
    if (!isOneOf(key, this.producers)) throw new TollgateError('UNAUTHENTICATED', 'the key is not valid')
    if (level === 'admin') throw new TollgateError('FORBIDDEN', "an administrator's key is needed")
  }

  /** Whether the key is one of the configured ones. */
  isKnown(key: string): boolean {
    return isOneOf(key, [...this.admins, ...this.producers])
  }

  /** Whether the request comes from the trusted proxy. */
  isProxy(headers: IncomingHttpHeaders): boolean {
    const secret = headers['x-tollgate-secret']
    return typeof secret === 'string' && this.proxy.length > 0 && isOneOf(secret, this.proxy)
  }
}

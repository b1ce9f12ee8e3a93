import { readFileSync } from 'node:fs'
import type { ConnectionOptions } from 'node:tls'
import { ConfigInvalid } from '../model/errors.js'
import { show } from '../validation/faults.js'

/** Where a server listens: host and port, or the path of a unix socket. */
export interface ServerNode {
  readonly host: string
  readonly port: number
  readonly path?: string
}

export interface Credentials {
  readonly username?: string
  readonly password?: string
}

/** How each server of an address is talked to. */
export interface ServerAccess extends Credentials {
  readonly db?: number
  readonly family?: 4 | 6
  readonly tls?: ConnectionOptions
}

/** What a URL of Redis says. */
export type RedisAddress = { readonly access: ServerAccess } & (
  | { readonly kind: 'single'; readonly node: ServerNode }
  /** `nodes` are the sentinels. */
  | { readonly kind: 'sentinel'; readonly nodes: readonly ServerNode[]; readonly master: string; readonly sentinel: Credentials }
  /** `nodes` are some of the cluster's, by which the others are found. */
  | {
      readonly kind: 'cluster'
      readonly nodes: readonly ServerNode[]
      /** The address by which a node is reached from here, where the cluster has another for it. */
      readonly reachedAt?: (node: ServerNode) => ServerNode
    }
)

const FORMS =
  'redis://host:port, rediss://host:port (TLS), sentinel://host:port,host:port/master-name, redis-cluster://host:port,host:port or unix:///path/of/the.sock'

interface Scheme {
  readonly kind: RedisAddress['kind'] | 'unix'
  readonly tls: boolean
}

const SCHEMES: ReadonlyMap<string, Scheme> = new Map([
  ['redis', { kind: 'single', tls: false }],
  ['rediss', { kind: 'single', tls: true }],
  ['unix', { kind: 'unix', tls: false }],
  ['sentinel', { kind: 'sentinel', tls: false }],
  ['sentinels', { kind: 'sentinel', tls: true }],
  ['redis-cluster', { kind: 'cluster', tls: false }],
  ['rediss-cluster', { kind: 'cluster', tls: true }],
])

/** Schemes that other programs use, and what they are here. */
const OTHER_SCHEMES: Readonly<Record<string, string>> = {
  'redis+cluster': 'redis-cluster',
  'redis+sentinel': 'sentinel',
  'redis-sentinel': 'sentinel',
  'rediss+sentinel': 'sentinels',
  'rediss-sentinel': 'sentinels',
  'redis+unix': 'unix',
  'redis-socket': 'unix',
  'rediss+cluster': 'rediss-cluster',
  valkey: 'redis',
  valkeys: 'rediss',
}

const DEFAULT_PORT = { single: 6379, cluster: 6379, sentinel: 26_379 } as const
/** Files of TLS, and the name that the certificate of the server has to carry. */
const TLS_FIELDS = ['ca', 'cert', 'key', 'servername'] as const

/** A URL for an error message: without user, password and query, which may hold secrets. */
export function withoutSecrets(url: string): string {
  return show(url.replace(/^([a-z+-]+:\/\/)?.*@/is, '$1…@').replace(/\?.*$/s, '?…'))
}

class AddressReader {
  private readonly query: URLSearchParams
  readonly scheme: Scheme
  private readonly userinfo: string | undefined
  private readonly hosts: string
  private readonly path: string

  constructor(private readonly url: string) {
    const [, name = '', userinfo, hosts = '', path = '', query = ''] =
      /^([a-z+-]+):\/\/(?:([^/?#\s]*)@)?([^/?#\s@]*)(\/[^?#\s@]*)?(?:\?([^#\s]*))?$/i.exec(url) ?? []
    const scheme = SCHEMES.get(name)
    const instead = OTHER_SCHEMES[name]
    if (scheme === undefined) throw this.fault(instead === undefined ? `must have one of the forms ${FORMS}` : `of such a Redis begins with ${instead}://`)
    this.scheme = scheme
    this.userinfo = userinfo
    this.hosts = hosts
    this.path = path
    this.query = new URLSearchParams(query)
  }

  fault(why: string): ConfigInvalid {
    return new ConfigInvalid(`redis: the URL ${why} (got ${withoutSecrets(this.url)})`)
  }

  /** A part of the URL without its %-escapes. */
  private plain(text: string): string {
    try {
      return decodeURIComponent(text)
    } catch {
      throw this.fault("has a %-escape that cannot be read; in a user or password '%', '@', '/', '?' and '#' are written %25, %40, %2F, %3F and %23")
    }
  }

  /** @param known fields of the query */
  access(known: readonly string[]): ServerAccess {
    for (const name of this.query.keys()) {
      const allowed = [...known, ...(this.scheme.tls ? TLS_FIELDS : [])]
      // Any option of ioredis could stand there; it would override those that Tollgate needs.
      if (!allowed.includes(name)) throw this.fault(`may hold ${allowed.join(', ')} in its query, and no ${show(name)}`)
    }
    const family = this.query.get('family')
    if (family !== null && family !== '4' && family !== '6') throw this.fault('must have 4 or 6 as family')
    const [username = '', password] = this.userinfo === undefined ? [] : (this.userinfo.split(/:(.*)/s) as [string, string?])
    return {
      ...this.credentials(username, password),
      ...(family === null ? {} : { family: family === '4' ? 4 : 6 }),
      ...(this.scheme.tls ? { tls: this.tls() } : {}),
    }
  }

  credentials(username: string | null, password: string | null | undefined): Credentials {
    return { ...(username ? { username: this.plain(username) } : {}), ...(password ? { password: this.plain(password) } : {}) }
  }

  sentinelCredentials(): Credentials {
    return {
      ...(this.query.has('sentinelUsername') ? { username: this.query.get('sentinelUsername') as string } : {}),
      ...(this.query.has('sentinelPassword') ? { password: this.query.get('sentinelPassword') as string } : {}),
    }
  }

  private tls(): ConnectionOptions {
    const file = (name: string) => {
      const path = this.query.get(name)
      if (path === null) return {}
      try {
        return { [name]: readFileSync(path) }
      } catch (error) {
        throw this.fault(`names a file of ${name} that cannot be read: ${(error as NodeJS.ErrnoException).code ?? 'unknown error'}`)
      }
    }
    const servername = this.query.get('servername')
    if (this.query.has('cert') !== this.query.has('key')) throw this.fault('must name both cert and key for a client certificate, or neither')
    return { ...file('ca'), ...file('cert'), ...file('key'), ...(servername === null ? {} : { servername }) }
  }

  nodes(): ServerNode[] {
    const { kind } = this.scheme
    const port = DEFAULT_PORT[kind === 'unix' ? 'single' : kind]
    const found = this.hosts.split(',').map((host) => {
      const [, ipv6, name, given] = /^(?:\[([\da-f:.]+)\]|([^:[\]]*))(?::(\d+))?$/i.exec(host) ?? []
      if ((ipv6 ?? name) === undefined || Number(given ?? 1) < 1 || Number(given ?? 1) > 65_535)
        throw this.fault('must have hosts of the form host or host:port, with a port from 1 to 65535')
      if (kind !== 'single' && (ipv6 ?? name) === '') throw this.fault('needs a host')
      return { host: ipv6 ?? (name || 'localhost'), port: Number(given ?? port) }
    })
    if (kind === 'single' && found.length > 1) throw this.fault('may name one host; several need sentinel:// or redis-cluster://')
    return found
  }

  /** The number of the database after so many parts of the path. */
  database(rest: string | undefined): { db?: number } {
    if (rest === undefined || rest === '') return {}
    if (!/^\d{1,9}$/.test(rest)) throw this.fault('may end with / and the number of a database')
    return { db: Number(rest) }
  }

  parts(): string[] {
    return this.path.split('/').slice(1)
  }

  address(): RedisAddress {
    const { kind } = this.scheme
    switch (kind) {
      case 'single': {
        const [database, ...rest] = this.parts()
        if (rest.length > 0) throw this.fault('may end with / and the number of a database')
        if (this.hosts === '' && this.path === '') throw this.fault('needs a host')
        return { kind, node: this.nodes()[0] as ServerNode, access: { ...this.access(['family']), ...this.database(database) } }
      }
      case 'unix': {
        if (this.hosts !== '' || this.path.length < 2)
          throw this.fault('must have the path of a unix socket, which begins with /: unix:///run/redis.sock, unix://user:password@/run/redis.sock')
        const access = this.access(['db'])
        const node = { host: 'localhost', port: 0, path: this.plain(this.path) }
        return { kind: 'single', node, access: { ...access, ...this.database(this.query.get('db') ?? undefined) } }
      }
      case 'sentinel': {
        const [master = '', database, ...rest] = this.parts()
        if (master === '' || rest.length > 0) throw this.fault('must name its master after the hosts: sentinel://host:port,host:port/master-name')
        const access = { ...this.access(['family', 'sentinelUsername', 'sentinelPassword']), ...this.database(database) }
        return { kind, nodes: this.nodes(), master: this.plain(master), sentinel: this.sentinelCredentials(), access }
      }
      case 'cluster': {
        if (this.parts().join('').replace(/^0$/, '') !== '') throw this.fault('must not name a database: a Redis Cluster has database 0 alone')
        return { kind, nodes: this.nodes(), access: this.access(['family']) }
      }
      default:
        throw kind satisfies never
    }
  }
}

/** Reads a URL of Redis. @throws ConfigInvalid that quotes neither user nor password nor query */
export function readAddress(url: string): RedisAddress {
  return new AddressReader(url).address()
}

/** Names an address in messages: without credentials. */
export function addressName(address: RedisAddress): string {
  const at = ({ host, port, path }: ServerNode) => path ?? `${host}:${port}`
  if (address.kind === 'single') return `Redis at ${at(address.node)}`
  const nodes = address.nodes.map(at).join(', ')
  return address.kind === 'sentinel' ? `the master ${address.master} of the sentinels at ${nodes}` : `the Redis Cluster at ${nodes}`
}

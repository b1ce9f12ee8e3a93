import type { IncomingHttpHeaders } from 'node:http'
import { type Dispatcher, Pool } from 'undici'
import { agentKey } from '../../agents/http-agent.js'
import type { AgentApi } from '../../agents/inbound.js'
import { MINUTE } from '../../model/time.js'
import type { AgentSpec } from '../../policy/rule.js'

/** Headers that belong to one connection (RFC 9110, 7.6.1), and those that say how a message is framed. */
const HOP_BY_HOP = [
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]
/** Headers of a request that the agent does not get: keys, what a browser or proxy adds, and what is for this server. */
const NOT_SENT = new Set([
  ...HOP_BY_HOP,
  ...[
    'host',
    'content-length',
    'authorization',
    'x-api-key',
    'api-key',
    'x-goog-api-key',
    'cookie',
    'origin',
    'referer',
    'expect',
    'accept-encoding',
    'prefer',
  ],
  ...['forwarded', 'via', 'x-real-ip', 'content-encoding'],
])
const NOT_SENT_PREFIXES = ['x-tollgate-', 'x-forwarded-', 'sec-', 'cf-', 'proxy-']
const NOT_ANSWERED = new Set([...HOP_BY_HOP, 'set-cookie', 'alt-svc', 'strict-transport-security'])

/** The headers that the Connection header names: they end with the connection, too. */
function named(connection: string | string[] | undefined): ReadonlySet<string> {
  return new Set([connection ?? []].flat().flatMap((value) => value.split(',').map((name) => name.trim().toLowerCase())))
}

/** The headers of an agent's answer that its client gets. */
export function answeredHeaders(headers: IncomingHttpHeaders): Record<string, string | string[]> {
  const dropped = named(headers.connection)
  return Object.fromEntries(
    Object.entries(headers).flatMap(([name, value]) => (value === undefined || NOT_ANSWERED.has(name) || dropped.has(name) ? [] : [[name, value]])),
  )
}

/** Sends requests to one agent, over connections that are kept open. */
export class AgentClient {
  readonly api: AgentApi
  /** Whether the key of the agent is put in here; else the client's own is passed on. */
  readonly hasKey: boolean
  private readonly pool: Pool
  private readonly key: string | undefined
  private readonly basePath: string
  private readonly auth: Readonly<Record<string, string>>

  /** @param timeoutMs how long the agent may take to begin its answer, and between two parts of it. @throws ConfigInvalid where its key is missing */
  constructor(name: string, spec: AgentSpec, environment: NodeJS.ProcessEnv, timeoutMs: number) {
    const { baseUrl, api = 'openai', apiKeyEnv } = spec
    const key = agentKey(name, spec, environment)
    this.api = api
    this.hasKey = apiKeyEnv !== undefined
    const { origin, pathname } = new URL(baseUrl)
    this.basePath = pathname.replace(/\/+$/, '')
    this.pool = new Pool(origin, { headersTimeout: timeoutMs, bodyTimeout: timeoutMs, keepAliveTimeout: MINUTE, connections: null })
    this.key = key
    this.auth = key === undefined ? {} : api === 'anthropic' ? { 'x-api-key': key } : { authorization: `Bearer ${key}` }
  }

  /** A part of an answer without the agent's key: some agents quote it in their errors. */
  withoutKey(part: Buffer): Buffer {
    const { key } = this
    return key === undefined || !part.includes(key) ? part : Buffer.from(part.toString('latin1').replaceAll(key, '(key)'), 'latin1')
  }

  /**
   * Sends a request. A redirect is not followed: it would send the key to another host.
   * @param target the path at the agent, checked
   * @param ownKey the headers with the client's own key for the agent, where it is to be passed on
   */
  send(
    method: string,
    target: string,
    headers: IncomingHttpHeaders,
    body: Buffer,
    ownKey: IncomingHttpHeaders,
    signal: AbortSignal,
  ): Promise<Dispatcher.ResponseData> {
    const dropped = named(headers.connection)
    const sent = Object.entries(headers).flatMap(([name, value]): [string, string | string[]][] =>
      value === undefined || NOT_SENT.has(name) || dropped.has(name) || NOT_SENT_PREFIXES.some((prefix) => name.startsWith(prefix)) ? [] : [[name, value]],
    )
    const own = Object.fromEntries(Object.entries(ownKey).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])))
    // Compressed answers could not be read for their usage.
    const all = { ...Object.fromEntries(sent), 'accept-encoding': 'identity', ...(this.hasKey ? this.auth : own) }
    const none = method === 'GET' || method === 'HEAD' || body.length === 0
    return this.pool.request({ method: method as Dispatcher.HttpMethod, path: this.basePath + target, headers: all, body: none ? null : body, signal })
  }

  close(): Promise<void> {
    return this.pool.destroy()
  }
}

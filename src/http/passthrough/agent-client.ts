import type { IncomingHttpHeaders } from 'node:http'
import { type Dispatcher, Pool } from 'undici'
import { agentKey } from '../../agents/http-agent.js'
import type { AgentApi } from '../../agents/inbound.js'
import { MINUTE } from '../../model/time.js'
import type { AgentSpec } from '../../policy/rule.js'
import { AnswerSource } from './answer-source.js'

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

const NONE: ReadonlySet<string> = new Set()

/** The headers that the Connection header names: they end with the connection, too. */
function named(connection: string | string[] | undefined): ReadonlySet<string> {
  if (connection === undefined || connection === 'keep-alive' || connection === 'close') return NONE
  return new Set([connection].flat().flatMap((value) => value.split(',').map((name) => name.trim().toLowerCase())))
}

/** Adds the headers of an agent's answer that its client gets. */
export function addAnsweredHeaders(headers: IncomingHttpHeaders, to: Record<string, string | string[]>): void {
  const dropped = named(headers.connection)
  for (const name in headers) {
    const value = headers[name]
    if (value !== undefined && !NOT_ANSWERED.has(name) && !dropped.has(name)) to[name] = value
  }
}

/** Whether the agent does not get a header. Nearly all requests have the same ones: what was found of a name is kept. */
const heldBack = new Map<string, boolean>()
const MOST_NAMES = 1000

function isHeldBack(name: string): boolean {
  let known = heldBack.get(name)
  if (known === undefined) {
    known = NOT_SENT.has(name) || NOT_SENT_PREFIXES.some((prefix) => name.startsWith(prefix))
    if (heldBack.size < MOST_NAMES && name.length < 64) heldBack.set(name, known)
  }
  return known
}

/** Sends requests to one agent, over connections that are kept open. */
export class AgentClient {
  readonly api: AgentApi
  /** Whether the key of the agent is put in here; else the client's own is passed on. */
  readonly hasKey: boolean
  /** How long its clients wait that do not say so; undefined: as at the other agents. */
  readonly patienceMs: number | undefined
  private readonly pool: Pool
  private readonly key: string | undefined
  private readonly basePath: string
  private readonly auth: IncomingHttpHeaders

  /** @param timeoutMs how long the agent may take to begin its answer, and between two parts of it. @throws ConfigInvalid where its key is missing */
  constructor(name: string, spec: AgentSpec, environment: NodeJS.ProcessEnv, timeoutMs: number) {
    const { baseUrl, api = 'openai', apiKeyEnv } = spec
    const key = agentKey(name, spec, environment)
    this.api = api
    this.patienceMs = spec.patienceMs
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
  send(method: string, target: string, headers: IncomingHttpHeaders, body: Buffer, ownKey: IncomingHttpHeaders): AnswerSource {
    const dropped = named(headers.connection)
    const sent: Record<string, string | string[]> = {}
    for (const name in headers) {
      const value = headers[name]
      if (value !== undefined && !isHeldBack(name) && !dropped.has(name)) sent[name] = value
    }
    // Compressed answers could not be read for their usage.
    sent['accept-encoding'] = 'identity'
    const keys = this.hasKey ? this.auth : ownKey
    for (const name in keys) {
      const value = keys[name]
      if (value !== undefined) sent[name] = value
    }
    const none = method === 'GET' || method === 'HEAD' || body.length === 0
    const answer = new AnswerSource()
    this.pool.dispatch({ method: method as Dispatcher.HttpMethod, path: this.basePath + target, headers: sent, body: none ? null : body }, answer)
    return answer
  }

  close(): Promise<void> {
    return this.pool.destroy()
  }
}

import type { IncomingHttpHeaders } from 'node:http'
import { type Call, MAX_NAME_LENGTH } from '../model/call.js'
import type { Cost } from '../model/cost.js'
import { RequestInvalid, TollgateError } from '../model/errors.js'
import type { AgentSpec } from '../policy/rule.js'
import { CONTENT, outputBound } from '../pricing/payload.js'

export type AgentApi = NonNullable<AgentSpec['api']>

/** What looks like a generating request to such an endpoint costs no tokens. */
const COUNTING = /\/(count_tokens|input_tokens|tokenize)$/
const GENERATING = /\/(chat\/completions|completions|responses|messages)$/

type JsonObject = Readonly<Record<string, unknown>>

/** A request of a client to an agent. */
export interface InboundRequest {
  readonly method: string
  /** The path at the agent, with its query. */
  readonly target: string
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
  /** The body where it is a JSON object. */
  readonly json: JsonObject | undefined
  /** What the rules know of it. */
  readonly call: Pick<Call, 'agent' | 'endpoint' | 'model' | 'cost' | 'payload'>
  /** Whether the client reads server-sent events. */
  readonly streams: boolean
  /** Whether OpenAI's `include_usage` is to be set, and the chunk that it brings taken out again. */
  readonly addsUsage: boolean
}

/**
 * The target at the agent of an address below /agents/<agent>.
 * @throws RequestInvalid where it could leave the agent's base URL: dots, empty or encoded segments, another origin
 */
export function targetOf(url: string): string {
  const [, rest = ''] = /^\/agents\/[^/?#]+([^#]*)$/.exec(url) ?? []
  const [path = '', query] = rest.split(/\?(.*)/s)
  const invalid = () => new RequestInvalid('path: must be a plain path of the agent, such as /v1/chat/completions')
  if (!/^(\/[\w.~!$&'()*+,;=:@%-]+)+\/?$/.test(path)) throw invalid()
  for (const segment of path.split('/')) {
    let plain: string
    try {
      plain = decodeURIComponent(segment)
    } catch {
      throw invalid()
    }
    if (plain === '.' || plain === '..' || /[/\\%\p{Cc}]/u.test(plain)) throw invalid()
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  if (query !== undefined && /[\u0000-\u0020\u007f-\uffff]/.test(query)) throw invalid()
  return query === undefined ? path : `${path}?${query}`
}

/** The endpoint that rules see: the path up to the first segment that names a thing, such as the id of a file. */
function endpointOf(target: string): string {
  const [path = ''] = target.split('?')
  const [named = path] = /^(\/v\d+\w*)?(\/[a-z_]+)*/i.exec(path.replace(/\/+$/, '')) ?? []
  return (named === '' ? '/' : named).toLowerCase().slice(0, MAX_NAME_LENGTH)
}

function jsonObject(body: Buffer): JsonObject | undefined {
  if (body.length === 0) return undefined
  try {
    const value: unknown = JSON.parse(body.toString('utf8'))
    return value !== null && typeof value === 'object' && !Array.isArray(value) ? (value as JsonObject) : undefined
  } catch {
    return undefined
  }
}

const NO_TOKENS: Cost = { tokens: 0, inputTokens: 0, outputTokens: 0, usd: 0 }

/** @param outputTokens of a request that sets no maximum. @throws RequestInvalid, MEDIA_TYPE_UNSUPPORTED */
export function readInbound(
  agent: string,
  { method, target, headers, body }: Pick<InboundRequest, 'method' | 'target' | 'headers' | 'body'>,
  outputTokens: number,
): InboundRequest {
  const endpoint = endpointOf(target)
  const encoding = headers['content-encoding']
  if (encoding !== undefined && encoding !== 'identity')
    throw new TollgateError('MEDIA_TYPE_UNSUPPORTED', `content-encoding: a body that is compressed cannot be metered (got ${encoding.slice(0, 40)})`)
  const json = jsonObject(body)
  const generating = method === 'POST' && GENERATING.test(endpoint)
  if (generating && json === undefined) throw new RequestInvalid('body: must be a JSON object')
  const metered = json !== undefined && !COUNTING.test(endpoint) && (generating || CONTENT.some((name) => json[name] !== undefined))
  const model = typeof json?.['model'] === 'string' ? json['model'] : undefined
  const streams = json?.['stream'] === true
  const options = json?.['stream_options'] as JsonObject | null | undefined
  return {
    method,
    target,
    headers,
    body,
    json,
    streams,
    addsUsage: streams && /\/completions$/.test(endpoint) && options?.['include_usage'] !== true,
    call: {
      agent,
      endpoint,
      model,
      ...(metered ? { cost: { outputTokens: outputBound({ agent, endpoint, model, payload: json }, outputTokens) }, payload: json } : { cost: NO_TOKENS }),
    },
  }
}

/** The body as the agent gets it. @param model replaces that of the request, in degraded mode */
export function outboundBody({ body, json, addsUsage }: InboundRequest, model: string | undefined): Buffer {
  if (json === undefined || (!addsUsage && model === undefined)) return body
  const options = (json['stream_options'] ?? {}) as JsonObject
  return Buffer.from(
    JSON.stringify({ ...json, ...(model === undefined ? {} : { model }), ...(addsUsage ? { stream_options: { ...options, include_usage: true } } : {}) }),
  )
}

import type { Call } from '../model/call.js'
import { CallInvalid, ConfigInvalid, TollgateError, UpstreamLimited } from '../model/errors.js'
import { type AgentSpec, defaultEndpoints } from '../policy/rule.js'
import { type CallUsage, readUsage } from '../pricing/usage.js'
import type { CallContext, Handler } from '../queue/handler.js'
import { REFUSED_STATUSES } from '../upstream/headers.js'
import { normalEndpoint } from '../validation/endpoint.js'
import { faultMessage, show } from '../validation/faults.js'

/** The result of a call to an agent over HTTP. */
export interface AgentAnswer {
  readonly status: number
  /** The body as JSON; as text where it is not JSON. */
  readonly output: unknown
  /** The usage that the agent reported; the call is settled by it. */
  readonly usage?: CallUsage
}

/** The longest part of an agent's error that is quoted, in characters. */
const QUOTED_ERROR = 500

function headersFor(agent: AgentSpec, environment: NodeJS.ProcessEnv): Record<string, string> {
  const headers: Record<string, string> = { 'content-type': 'application/json', accept: 'application/json' }
  const key = agent.apiKeyEnv === undefined ? undefined : environment[agent.apiKeyEnv]?.trim()
  if (agent.api === 'anthropic') {
    headers['anthropic-version'] = '2023-06-01'
    if (key !== undefined) headers['x-api-key'] = key
  } else if (key !== undefined) headers['authorization'] = `Bearer ${key}`
  return headers
}

/** @throws ConfigInvalid where the key of an agent is missing, or cannot be sent in a header */
function checkApiKey(name: string, { apiKeyEnv }: AgentSpec, environment: NodeJS.ProcessEnv): void {
  if (apiKeyEnv === undefined) return
  const key = environment[apiKeyEnv]?.trim() ?? ''
  if (key === '') throw new ConfigInvalid(`agents.${name}.apiKeyEnv: ${apiKeyEnv} is not set in the environment`)
  // fetch would quote the key in its error.
  if (!/^[\x21-\x7e]+$/.test(key)) throw new ConfigInvalid(`agents.${name}.apiKeyEnv: ${apiKeyEnv} holds characters that a key cannot have (not shown)`)
}

/** @throws CallInvalid where the endpoint leads out of the agent's `baseUrl`, to which the key belongs */
function urlOf(agent: AgentSpec, endpoint: string): string {
  const base = agent.baseUrl.replace(/\/+$/, '')
  const url = `${base}${normalEndpoint(endpoint) ?? ''}`
  if (url === base || !new URL(url).href.startsWith(`${new URL(base).href.replace(/\/+$/, '')}/`))
    throw new CallInvalid(faultMessage('endpoint', 'must be a path under the baseUrl of its agent', show(endpoint)))
  return url
}

/** The error of an answer that is neither a success nor a refusal. */
function failure(call: Call, status: number, output: unknown, usage: CallUsage | undefined): TollgateError {
  const quoted = (typeof output === 'string' ? output : JSON.stringify(output)).slice(0, QUOTED_ERROR)
  return Object.assign(new TollgateError('UPSTREAM_FAILED', `${call.agent} answered ${status}: ${quoted}`), { usage })
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function withModel(payload: unknown, model: string): unknown {
  return payload !== null && typeof payload === 'object' && !Array.isArray(payload) ? { ...payload, model } : { model }
}

/**
 * Makes a handler that posts the payload of a call to its agent, at the call's `endpoint` under the agent's `baseUrl`. The default endpoint is
 * `/v1/chat/completions` (openai) or `/v1/messages` (anthropic). 429, 503 and 529 return the call to its line (UPSTREAM_LIMITED); other statuses than
 * 2xx fail it with UPSTREAM_FAILED, settled by the usage in the answer, if any.
 * @param environment where the API keys are read, by the name in `apiKeyEnv`
 * @throws ConfigInvalid at once where an agent's key is missing from the environment
 */
export function httpAgent(agents: Readonly<Record<string, AgentSpec>>, environment: NodeJS.ProcessEnv = process.env): Handler {
  const known = new Map(Object.entries(agents))
  for (const [name, agent] of known) checkApiKey(name, agent, environment)
  const endpoints = defaultEndpoints(agents)
  const handler = async (call: Call, context: CallContext): Promise<AgentAnswer> => {
    const agent = known.get(call.agent)
    if (agent === undefined) throw new ConfigInvalid(`agent ${call.agent} is not among the configured ones (${[...known.keys()].join(', ') || 'none'})`)
    const { signal, degraded, degradeTo } = context
    const body = JSON.stringify(degraded && degradeTo !== undefined ? withModel(call.payload, degradeTo) : (call.payload ?? {}))
    // A redirect is not followed: it would send the key to another host.
    const response = await fetch(urlOf(agent, call.endpoint ?? (endpoints[call.agent] as string)), {
      method: 'POST',
      headers: headersFor(agent, environment),
      body,
      signal,
      redirect: 'manual',
    })
    const output = parse(await response.text())
    const usage = readUsage(output)
    if (REFUSED_STATUSES.has(response.status)) throw new UpstreamLimited({ headers: response.headers, message: `${call.agent} answered ${response.status}` })
    context.observe(response.headers)
    if (!response.ok) throw failure(call, response.status, output, usage)
    return { status: response.status, output, ...(usage === undefined ? {} : { usage }) }
  }
  return Object.assign(handler, { endpoints })
}

import type { Call } from '../model/call.js'
import { ConfigInvalid, TollgateError, UpstreamLimited } from '../model/errors.js'
import type { AgentSpec } from '../policy/rule.js'
import { type CallUsage, readUsage } from '../pricing/usage.js'
import type { CallContext, Handler } from '../queue/handler.js'
import { isFinalAnswer, isRefusal } from '../upstream/refusals.js'
import { fitWords } from '../upstream/words.js'

/** The result of a call to an agent over HTTP. */
export interface AgentAnswer {
  readonly status: number
  /** The body as JSON; as text where it is not JSON. */
  readonly output: unknown
  /** The usage that the agent reported; the call is settled by it. */
  readonly usage?: CallUsage
}

const DEFAULT_ENDPOINTS: Readonly<Record<NonNullable<AgentSpec['api']>, string>> = { openai: '/v1/chat/completions', anthropic: '/v1/messages' }

function keyOf({ apiKeyEnv }: AgentSpec, environment: NodeJS.ProcessEnv): string | undefined {
  return apiKeyEnv === undefined ? undefined : environment[apiKeyEnv]?.trim()
}

function headersFor(agent: AgentSpec, environment: NodeJS.ProcessEnv): Record<string, string> {
  const headers: Record<string, string> = { 'content-type': 'application/json', accept: 'application/json' }
  const key = keyOf(agent, environment)
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

function urlOf(agent: AgentSpec, call: Call): string {
  const endpoint = call.endpoint ?? DEFAULT_ENDPOINTS[agent.api ?? 'openai']
  // The slash keeps an endpoint like "@elsewhere.example" from sending the key to another host.
  return `${agent.baseUrl.replace(/\/+$/, '')}/${endpoint.replace(/^\/+/, '')}`
}

/** The error of an answer that is no success. @param key what the agent was sent, and may echo */
function failure(call: Call, { status, headers }: Response, output: unknown, key: string | undefined): TollgateError {
  const quoted = fitWords(typeof output === 'string' ? output : JSON.stringify(output), key === undefined ? [] : [key])
  const message = `${call.agent} answered ${status}${quoted === '' ? '' : `: ${quoted}`}`
  if (isFinalAnswer(status, headers, output)) return new TollgateError('UPSTREAM_REFUSED', message)
  if (isRefusal(status)) return new UpstreamLimited({ headers, message, retryable: true })
  return new TollgateError('UPSTREAM_FAILED', message)
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
 * `/v1/chat/completions` (openai) or `/v1/messages` (anthropic). 429, 503 and 529 return the call to its line (UPSTREAM_LIMITED), unless the
 * answer says that waiting does not help, which fails the call for good (UPSTREAM_REFUSED), as do 402 and 413; other statuses than 2xx fail it with
 * UPSTREAM_FAILED, settled by the usage in the answer, if any.
 * @param environment where the API keys are read, by the name in `apiKeyEnv`
 * @throws ConfigInvalid at once where an agent's key is missing from the environment
 */
export function httpAgent(agents: Readonly<Record<string, AgentSpec>>, environment: NodeJS.ProcessEnv = process.env): Handler {
  const known = new Map(Object.entries(agents))
  for (const [name, agent] of known) checkApiKey(name, agent, environment)
  return async (call: Call, context: CallContext): Promise<AgentAnswer> => {
    const agent = known.get(call.agent)
    if (agent === undefined) throw new ConfigInvalid(`agent ${call.agent} is not among the configured ones (${[...known.keys()].join(', ') || 'none'})`)
    const { signal, degraded, degradeTo } = context
    const body = JSON.stringify(degraded && degradeTo !== undefined ? withModel(call.payload, degradeTo) : (call.payload ?? {}))
    // A redirect is not followed: it would send the key to another host.
    const response = await fetch(urlOf(agent, call), { method: 'POST', headers: headersFor(agent, environment), body, signal, redirect: 'manual' })
    const output = parse(await response.text())
    const usage = readUsage(output)
    // Those of a refusal are reported with it.
    if (response.ok || !isRefusal(response.status)) context.observe(response.headers)
    if (!response.ok) throw Object.assign(failure(call, response, output, keyOf(agent, environment)), usage === undefined ? {} : { usage })
    return { status: response.status, output, ...(usage === undefined ? {} : { usage }) }
  }
}

import type { Call } from '../model/call.js'
import { ConfigInvalid, TollgateError, UpstreamLimited } from '../model/errors.js'
import type { AgentSpec } from '../policy/rule.js'
import { type CallUsage, readUsage } from '../pricing/usage.js'
import type { CallContext } from '../queue/attempt.js'
import type { Handler } from '../queue/worker.js'

/** What a call to an agent over HTTP comes back with. */
export interface AgentAnswer {
  readonly status: number
  /** The answer's JSON, or its text where it is none. */
  readonly output: unknown
  /** What the agent says it used; settles the estimate. */
  readonly usage?: CallUsage
}

const DEFAULT_ENDPOINTS: Readonly<Record<NonNullable<AgentSpec['api']>, string>> = { openai: '/v1/chat/completions', anthropic: '/v1/messages' }
const LIMITED = new Set([429, 503, 529])
/** How much of an agent's error is quoted. */
const QUOTED = 500

function headersFor(agent: AgentSpec, environment: NodeJS.ProcessEnv): Record<string, string> {
  const headers: Record<string, string> = { 'content-type': 'application/json', accept: 'application/json' }
  const key = agent.apiKeyEnv === undefined ? undefined : environment[agent.apiKeyEnv]?.trim()
  if (agent.api === 'anthropic') {
    headers['anthropic-version'] = '2023-06-01'
    if (key !== undefined) headers['x-api-key'] = key
  } else if (key !== undefined) headers['authorization'] = `Bearer ${key}`
  return headers
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

/** A payload that asks for another model. */
function withModel(payload: unknown, model: string): unknown {
  return payload !== null && typeof payload === 'object' && !Array.isArray(payload) ? { ...payload, model } : { model }
}

/**
 * A handler that posts a call's payload to its agent: to the call's `endpoint` under the
 * agent's `baseUrl`. 429, 503 and 529 send the call back to its line; other statuses that
 * are not 2xx fail it, with the usage they tell of.
 * @throws ConfigInvalid at once where an agent's key is missing from the environment
 */
export function httpAgent(agents: Readonly<Record<string, AgentSpec>>, environment: NodeJS.ProcessEnv = process.env): Handler {
  const known = new Map(Object.entries(agents))
  for (const [name, { apiKeyEnv }] of known) {
    if (apiKeyEnv === undefined) continue
    const key = environment[apiKeyEnv]?.trim() ?? ''
    if (key === '') throw new ConfigInvalid(`agents.${name}.apiKeyEnv: ${apiKeyEnv} is not set in the environment`)
    // fetch would quote it in its error.
    if (!/^[\x21-\x7e]+$/.test(key)) throw new ConfigInvalid(`agents.${name}.apiKeyEnv: ${apiKeyEnv} holds characters that a key cannot have (not shown)`)
  }
  return async (call: Call, context: CallContext): Promise<AgentAnswer> => {
    const agent = known.get(call.agent)
    if (agent === undefined) throw new ConfigInvalid(`agent ${call.agent} is not among the configured ones (${[...known.keys()].join(', ') || 'none'})`)
    const endpoint = call.endpoint ?? DEFAULT_ENDPOINTS[agent.api ?? 'openai']
    // Without the slash, "@elsewhere.example" would take the key to another host; and so would following a redirect.
    const url = `${agent.baseUrl.replace(/\/+$/, '')}/${endpoint.replace(/^\/+/, '')}`
    const { signal, degraded, degradeTo } = context
    const body = JSON.stringify(degraded && degradeTo !== undefined ? withModel(call.payload, degradeTo) : (call.payload ?? {}))
    const response = await fetch(url, { method: 'POST', headers: headersFor(agent, environment), body, signal, redirect: 'manual' })
    const output = parse(await response.text())
    const usage = readUsage(output)
    if (LIMITED.has(response.status)) throw new UpstreamLimited({ headers: response.headers, message: `${call.agent} answered ${response.status}` })
    context.observe(response.headers)
    if (!response.ok) {
      const quoted = (typeof output === 'string' ? output : JSON.stringify(output)).slice(0, QUOTED)
      throw Object.assign(new TollgateError('UPSTREAM_FAILED', `${call.agent} answered ${response.status}: ${quoted}`), { usage })
    }
    return { status: response.status, output, ...(usage === undefined ? {} : { usage }) }
  }
}

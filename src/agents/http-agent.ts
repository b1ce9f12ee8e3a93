import { z } from 'zod'
import type { Call } from '../model/call.js'
import { DEFAULTS } from '../model/defaults.js'
import { CallInvalid, ConfigInvalid, TollgateError, UpstreamLimited } from '../model/errors.js'
import { type AgentSpec, defaultEndpoints } from '../policy/rule.js'
import { type CallUsage, readUsage } from '../pricing/usage.js'
import type { CallContext, Handler } from '../queue/handler.js'
import { isFinalAnswer, isRefusal } from '../upstream/refusals.js'
import { fitWords } from '../upstream/words.js'
import { normalEndpoint } from '../validation/endpoint.js'
import { checkInput, faultMessage, show } from '../validation/faults.js'
import { compileGlob } from '../validation/patterns.js'

/** The result of a call to an agent over HTTP. */
export interface AgentAnswer {
  readonly status: number
  /** The body as JSON; as text where it is not JSON. */
  readonly output: unknown
  /** The usage that the agent reported; the call is settled by it. */
  readonly usage?: CallUsage
}

/** What may be set about `httpAgent` besides its agents. */
export interface HttpAgentOptions {
  /** The environment variables that an `apiKeyEnv` may name, as globs; default `*_KEY` and `*_TOKEN`. */
  readonly keyNames?: readonly string[] | undefined
  /** How long an agent may take to answer, in ms; default 5 minutes. */
  readonly timeoutMs?: number | undefined
  /** The longest answer that is read, in bytes; default 1 MB. A call with a longer one fails for good. */
  readonly maxResultBytes?: number | undefined
}

const KEY_NAMES = ['*_KEY', '*_TOKEN'] as const

const optionsSchema = z.strictObject({
  keyNames: z.array(z.string().min(1)).optional(),
  timeoutMs: z.number().int().min(1).max(86_400_000).default(DEFAULTS.agentTimeoutMs),
  maxResultBytes: z.number().int().min(1).max(536_870_912).default(DEFAULTS.maxResultBytes),
})

function headersFor({ api }: AgentSpec, key: string | undefined): Record<string, string> {
  const headers: Record<string, string> = { 'content-type': 'application/json', accept: 'application/json' }
  if (api === 'anthropic') {
    headers['anthropic-version'] = '2023-06-01'
    if (key !== undefined) headers['x-api-key'] = key
  } else if (key !== undefined) headers['authorization'] = `Bearer ${key}`
  return headers
}

/**
 * The key of an agent; undefined where it has none.
 * @throws ConfigInvalid where its name is not allowed, or the key is missing or cannot be sent in a header
 */
export function agentKey(name: string, { apiKeyEnv }: AgentSpec, environment: NodeJS.ProcessEnv, allowed: readonly string[] = KEY_NAMES): string | undefined {
  if (apiKeyEnv === undefined) return undefined
  // Rules may come from elsewhere: they must not be able to send any variable of this process to any host.
  if (!allowed.some((glob) => compileGlob(glob)(apiKeyEnv)))
    throw new ConfigInvalid(`agents.${name}.apiKeyEnv: must have a name that this process allows, ${allowed.join(' or ')} (got ${show(apiKeyEnv)})`)
  const key = environment[apiKeyEnv]?.trim() ?? ''
  if (key === '') throw new ConfigInvalid(`agents.${name}.apiKeyEnv: ${apiKeyEnv} is not set in the environment`)
  // fetch would quote the key in its error.
  if (!/^[\x21-\x7e]+$/.test(key)) throw new ConfigInvalid(`agents.${name}.apiKeyEnv: ${apiKeyEnv} holds characters that a key cannot have (not shown)`)
  return key
}

/** The text of an answer, without the key that some agents echo; null where it is longer than allowed. */
async function read(response: Response, mostBytes: number, key: string | undefined): Promise<string | null> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length
    if (bytes > mostBytes) return null
    chunks.push(chunk)
  }
  const text = new TextDecoder().decode(Buffer.concat(chunks))
  return key === undefined ? text : text.replaceAll(key, '[hidden]').replaceAll(encodeURIComponent(key), '[hidden]')
}

/** @throws CallInvalid where the endpoint leads out of the agent's `baseUrl`, to which the key belongs */
function urlOf(agent: AgentSpec, endpoint: string): string {
  const base = agent.baseUrl.replace(/\/+$/, '')
  const url = `${base}${normalEndpoint(endpoint) ?? ''}`
  if (url === base || !new URL(url).href.startsWith(`${new URL(base).href.replace(/\/+$/, '')}/`))
    throw new CallInvalid(faultMessage('endpoint', 'must be a path under the baseUrl of its agent', show(endpoint)))
  return url
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
 * @throws ConfigInvalid at once where an agent's key is missing from the environment, or an option is not valid
 */
export function httpAgent(agents: Readonly<Record<string, AgentSpec>>, environment: NodeJS.ProcessEnv = process.env, options: HttpAgentOptions = {}): Handler {
  const { keyNames = KEY_NAMES, timeoutMs, maxResultBytes } = checkInput(optionsSchema, options, { whole: 'options' }, ConfigInvalid)
  const known = new Map(Object.entries(agents).map(([name, agent]) => [name, { agent, key: agentKey(name, agent, environment, keyNames) }]))
  const endpoints = defaultEndpoints(agents)
  const handler = async (call: Call, context: CallContext): Promise<AgentAnswer> => {
    const found = known.get(call.agent)
    if (found === undefined) throw new ConfigInvalid(`agent ${call.agent} is not among the configured ones (${[...known.keys()].join(', ') || 'none'})`)
    const { agent, key } = found
    const { signal, degraded, degradeTo } = context
    const url = urlOf(agent, call.endpoint ?? (endpoints[call.agent] as string))
    const body = JSON.stringify(degraded && degradeTo !== undefined ? withModel(call.payload, degradeTo) : (call.payload ?? {}))
    const late = AbortSignal.timeout(timeoutMs)
    try {
      // A redirect is not followed: it would send the key to another host.
      const request = {
        method: 'POST',
        headers: { ...headersFor(agent, key), ...context.traceHeaders },
        body,
        signal: AbortSignal.any([signal, late]),
        redirect: 'manual',
      } as const
      return await answer(call, context, await fetch(url, request), maxResultBytes, key)
    } catch (error) {
      if (!late.aborted || signal.aborted || error instanceof TollgateError) throw error
      throw new TollgateError('CALL_TIMED_OUT', `${call.agent} did not answer within ${timeoutMs} ms`)
    }
  }
  return Object.assign(handler, { endpoints })
}

async function answer(call: Call, context: CallContext, response: Response, mostBytes: number, key: string | undefined): Promise<AgentAnswer> {
  const { status, headers, ok } = response
  const text = await read(response, mostBytes, key)
  // Those of a refusal are reported with it.
  if (ok || !isRefusal(status)) context.observe(headers)
  if (text === null && ok) throw new TollgateError('CALL_FAILED', `${call.agent} answered more than ${mostBytes} bytes (maxResultBytes)`)
  const output = parse(text ?? `more than ${mostBytes} bytes`)
  const usage = readUsage(output)
  if (!ok) throw Object.assign(failure(call, response, output, key), usage === undefined ? {} : { usage })
  return { status, output, ...(usage === undefined ? {} : { usage }) }
}

import type { ChatRequest } from './chat-request.js'
import type { Refusal } from './limits.js'

/** A response over HTTP. */
export interface HttpAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: unknown
}

export function completion(id: number, request: ChatRequest, completionTokens: number): HttpAnswer {
  return {
    status: 200,
    headers: {},
    body: {
      id: `chatcmpl-${id}`,
      object: 'chat.completion',
      created: Math.floor(Date.now() / 1000),
      model: request.model,
      choices: [{ index: 0, message: { role: 'assistant', content: 'A sample answer.' }, finish_reason: 'stop' }],
      usage: { prompt_tokens: request.promptTokens, completion_tokens: completionTokens, total_tokens: request.promptTokens + completionTokens },
    },
  }
}

export function failure(status: number, type: string, code: string | null, message: string): HttpAnswer {
  return { status, headers: {}, body: { error: { message, type, param: null, code } } }
}

export function tooMany({ kind, retryAfterMs }: Refusal): HttpAnswer {
  if (retryAfterMs === Number.POSITIVE_INFINITY) {
    return failure(429, kind, 'rate_limit_exceeded', `Request too large: it needs more ${kind} than the limit can ever hold.`)
  }
  const answer = failure(429, kind, 'rate_limit_exceeded', `Rate limit reached for ${kind}. Please try again in ${Math.ceil(retryAfterMs)}ms.`)
  // RFC 9110 knows whole seconds only; OpenAI sends both.
  return { ...answer, headers: { 'retry-after': String(Math.ceil(retryAfterMs / 1000)), 'retry-after-ms': String(Math.ceil(retryAfterMs)) } }
}

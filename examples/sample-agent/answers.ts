import type { ChatRequest } from './chat-request.js'
import { bodyOf, errorBody, eventsOf, type Form } from './forms.js'
import type { Refusal } from './limits.js'

/** A response over HTTP. */
export interface HttpAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: unknown
  /** Server-sent events instead of the body, and the time between two of them. */
  readonly stream?: { readonly events: readonly string[]; readonly everyMs: number } | undefined
}

/** @param streamMs how long the answer takes where it is streamed */
export function completion(form: Form, id: number, request: ChatRequest, completionTokens: number, streamMs: number): HttpAnswer {
  const answered = { id, request, completionTokens }
  const events = request.stream ? eventsOf(form, answered) : []
  const stream = events.length === 0 ? undefined : { events, everyMs: streamMs / events.length }
  return { status: 200, headers: {}, body: bodyOf(form, answered), stream }
}

export function failure(status: number, type: string, code: string | null, message: string, form: Form = 'chat'): HttpAnswer {
  return { status, headers: {}, body: errorBody(form, type, code, message) }
}

export function tooMany({ kind, retryAfterMs }: Refusal, form: Form): HttpAnswer {
  if (retryAfterMs === Number.POSITIVE_INFINITY) {
    return failure(429, kind, 'rate_limit_exceeded', `Request too large: it needs more ${kind} than the limit can ever hold.`, form)
  }
  const answer = failure(429, kind, 'rate_limit_exceeded', `Rate limit reached for ${kind}. Please try again in ${Math.ceil(retryAfterMs)}ms.`, form)
  // RFC 9110 knows whole seconds only; OpenAI sends both.
  return { ...answer, headers: { 'retry-after': String(Math.ceil(retryAfterMs / 1000)), 'retry-after-ms': String(Math.ceil(retryAfterMs)) } }
}

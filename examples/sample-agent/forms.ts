import type { ChatRequest } from './chat-request.js'

/** The APIs whose form the agent speaks. */
export type Form = 'chat' | 'messages' | 'responses' | 'embeddings'

/** What an answer has used. */
interface Answered {
  readonly id: number
  readonly request: ChatRequest
  readonly completionTokens: number
}

const WORD = 'word '

/** The text of an answer: a word per token. */
function textOf(completionTokens: number): string {
  return WORD.repeat(completionTokens)
}

/** The body of an answer of one piece. */
export function bodyOf(form: Form, { id, request, completionTokens }: Answered): unknown {
  const { model, promptTokens } = request
  const tokens = { input_tokens: promptTokens, output_tokens: completionTokens }
  switch (form) {
    case 'chat':
      return {
        id: `chatcmpl-${id}`,
        object: 'chat.completion',
        created: Math.floor(Date.now() / 1000),
        model,
        choices: [{ index: 0, message: { role: 'assistant', content: 'A sample answer.' }, finish_reason: 'stop' }],
        usage: { prompt_tokens: promptTokens, completion_tokens: completionTokens, total_tokens: promptTokens + completionTokens },
      }
    case 'messages':
      return {
        id: `msg_${id}`,
        type: 'message',
        role: 'assistant',
        model,
        content: [{ type: 'text', text: 'A sample answer.' }],
        stop_reason: 'end_turn',
        stop_sequence: null,
        usage: tokens,
      }
    case 'responses':
      return {
        id: `resp_${id}`,
        object: 'response',
        status: 'completed',
        model,
        output: [
          {
            type: 'message',
            id: `msg_${id}`,
            role: 'assistant',
            status: 'completed',
            content: [{ type: 'output_text', text: 'A sample answer.', annotations: [] }],
          },
        ],
        usage: { ...tokens, total_tokens: promptTokens + completionTokens },
      }
    case 'embeddings':
      return {
        object: 'list',
        model,
        data: [{ object: 'embedding', index: 0, embedding: [0.1, 0.2, 0.3] }],
        usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
      }
    default:
      return form satisfies never
  }
}

function event(data: unknown, name?: string): string {
  return `${name === undefined ? '' : `event: ${name}\n`}data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`
}

/** The events of a streamed answer: one per token, and those around them. */
export function eventsOf(form: Form, answered: Answered): string[] {
  const { id, request, completionTokens } = answered
  const words = Array.from({ length: completionTokens }, () => WORD)
  const { model, promptTokens } = request
  switch (form) {
    case 'chat': {
      const chunk = (choices: unknown[], more = {}) => event({ id: `chatcmpl-${id}`, object: 'chat.completion.chunk', created: 1, model, choices, ...more })
      const usage = { prompt_tokens: promptTokens, completion_tokens: completionTokens, total_tokens: promptTokens + completionTokens }
      const none = request.includeUsage ? { usage: null } : {}
      return [
        ...words.map((content) => chunk([{ index: 0, delta: { role: 'assistant', content }, finish_reason: null }], none)),
        chunk([{ index: 0, delta: {}, finish_reason: 'stop' }], none),
        ...(request.includeUsage ? [chunk([], { usage })] : []),
        event('[DONE]'),
      ]
    }
    case 'messages': {
      const message = { ...(bodyOf(form, answered) as object), content: [], stop_reason: null, usage: { input_tokens: promptTokens, output_tokens: 1 } }
      const of = (type: string, more: object) => event({ type, ...more }, type)
      return [
        of('message_start', { message }),
        of('content_block_start', { index: 0, content_block: { type: 'text', text: '' } }),
        ...words.map((text) => of('content_block_delta', { index: 0, delta: { type: 'text_delta', text } })),
        of('content_block_stop', { index: 0 }),
        of('message_delta', { delta: { stop_reason: 'end_turn', stop_sequence: null }, usage: { output_tokens: completionTokens } }),
        of('message_stop', {}),
      ]
    }
    case 'responses': {
      const of = (type: string, more: object) => event({ type, ...more }, type)
      const response = bodyOf(form, answered) as object
      return [
        of('response.created', { response: { ...response, status: 'in_progress', output: [], usage: null } }),
        ...words.map((delta) => of('response.output_text.delta', { item_id: `msg_${id}`, output_index: 0, content_index: 0, delta })),
        of('response.output_text.done', { item_id: `msg_${id}`, output_index: 0, content_index: 0, text: textOf(completionTokens) }),
        of('response.completed', { response }),
      ]
    }
    case 'embeddings':
      return []
    default:
      return form satisfies never
  }
}

/** An error in the form of an API. */
export function errorBody(form: Form, type: string, code: string | null, message: string): unknown {
  return form === 'messages'
    ? { type: 'error', error: { type: code === 'rate_limit_exceeded' ? 'rate_limit_error' : type, message } }
    : { error: { message, type, param: null, code } }
}

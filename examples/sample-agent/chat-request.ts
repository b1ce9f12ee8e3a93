/** The fields of a request that the agent reads, in any of its forms. */
export interface ChatRequest {
  readonly model: string
  readonly promptTokens: number
  /** The longest answer, which the agent reserves. */
  readonly maxTokens: number
  /** The usage that the answer must have, where the request sets it: for the replay of a recorded trace. */
  readonly completionTokens: number | undefined
  readonly stream: boolean
  /** Whether a stream of chat ends with its usage. */
  readonly includeUsage: boolean
}

const CHARACTERS_PER_TOKEN = 4

/** Roughly how many tokens a text has. */
export function tokensIn(text: string): number {
  return Math.ceil(text.length / CHARACTERS_PER_TOKEN)
}

function field(value: unknown, name: string): unknown {
  return value !== null && typeof value === 'object' ? (value as Record<string, unknown>)[name] : undefined
}

function count(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : undefined
}

/** @returns null where the body is no chat request */
export function readChatRequest(body: string, defaultMaxTokens: number): ChatRequest | null {
  let parsed: unknown
  try {
    parsed = JSON.parse(body)
  } catch {
    return null
  }
  const messages = field(parsed, 'messages')
  const input = field(parsed, 'input')
  if (!Array.isArray(messages) && input === undefined) return null
  const text = !Array.isArray(messages)
    ? [input].flat().map(String)
    : messages.map((message) => field(message, 'content')).filter((content) => typeof content === 'string')
  const replay = field(parsed, 'replay_usage')
  const model = field(parsed, 'model')
  return {
    model: typeof model === 'string' ? model : 'sample',
    promptTokens: count(field(replay, 'prompt_tokens')) ?? text.reduce((sum, content) => sum + tokensIn(content), 0),
    maxTokens:
      count(field(parsed, 'max_completion_tokens')) ?? count(field(parsed, 'max_tokens')) ?? count(field(parsed, 'max_output_tokens')) ?? defaultMaxTokens,
    completionTokens: count(field(replay, 'completion_tokens')),
    stream: field(parsed, 'stream') === true,
    includeUsage: field(field(parsed, 'stream_options'), 'include_usage') === true,
  }
}

import { type Call, jsonOf, MAX_AMOUNT, show } from '../call.js'
import { DEFAULTS } from '../config/defaults.js'
import { CallInvalid } from '../errors.js'

/** A user's own estimate: tokens that a call will use. */
export type Estimate = (call: Call) => number | Promise<number>

/** Tokens around each message and the reply in OpenAI's chat format. */
const TOKENS_PER_MESSAGE = 3
const TOKENS_OF_REPLY = 3
const SLICE_LENGTH = 2048

interface ChatPayload {
  readonly messages?: unknown
  readonly system?: unknown
  readonly max_tokens?: unknown
  readonly max_completion_tokens?: unknown
}

function textOf(content: unknown): string {
  if (typeof content === 'string') return content
  if (Array.isArray(content)) return content.map(textOf).join('\n')
  if (content !== null && typeof content === 'object') return 'text' in content ? textOf(content.text) : 'content' in content ? textOf(content.content) : ''
  return ''
}

/**
 * The tokenizer takes time with the square of a run without a break (a megabyte of one letter:
 * minutes). In slices it does not; each adds a token at most.
 */
function slices(text: string): string[] {
  const parts: string[] = []
  for (let from = 0; from < text.length; from += SLICE_LENGTH) parts.push(text.slice(from, from + SLICE_LENGTH))
  return parts
}

let tokenizer: Promise<(text: string) => number> | undefined

/** The tokenizer is large and needed only where nobody says what a call costs: loaded when it is. */
function loadTokenizer(): Promise<(text: string) => number> {
  tokenizer ??= import('gpt-tokenizer').then(
    ({ countTokens }) =>
      (text) =>
        slices(text).reduce((sum, slice) => sum + countTokens(slice, { disallowedSpecial: new Set() }), 0),
  )
  return tokenizer
}

/**
 * Tokens that a chat call will use: its messages (o200k_base, the encoding of today's
 * GPT models; near enough for others, and settled later) and as many as it may answer
 * with. A payload without messages counts as its text.
 */
export async function estimateChat(call: Call): Promise<number> {
  const count = await loadTokenizer()
  const payload: ChatPayload = call.payload !== null && typeof call.payload === 'object' ? call.payload : {}
  const answer = [payload.max_completion_tokens, payload.max_tokens].find((value) => typeof value === 'number' && value >= 0) as number | undefined
  const output = answer ?? DEFAULTS.outputTokens
  if (!Array.isArray(payload.messages)) {
    return call.payload === undefined ? output : count(typeof call.payload === 'string' ? call.payload : jsonOf(call.payload)) + output
  }
  const texts = payload.messages.map(textOf)
  const system = textOf(payload.system)
  if (system !== '') texts.push(system)
  return texts.reduce((sum, text) => sum + count(text) + TOKENS_PER_MESSAGE, TOKENS_OF_REPLY) + output
}

async function answerOf(estimate: Estimate, call: Call): Promise<unknown> {
  try {
    return await estimate(call)
  } catch (cause) {
    // Refuses this call; others that are enqueued with it go on.
    throw new CallInvalid(`cost.tokens: the estimate failed (${cause instanceof Error ? cause.message : show(cause)})`)
  }
}

/** The tokens of a call: what it says itself, else the user's estimate, else that of the tokenizer. */
export async function estimateTokens(call: Call, estimate: Estimate | undefined): Promise<number> {
  if (call.cost?.tokens !== undefined) return call.cost.tokens
  const tokens = await answerOf(estimate ?? estimateChat, call)
  if (typeof tokens !== 'number' || !(tokens >= 0 && tokens <= MAX_AMOUNT)) {
    throw new CallInvalid(`cost.tokens: the estimate must be a number from 0 to ${MAX_AMOUNT} (got ${show(tokens)})`)
  }
  return tokens
}

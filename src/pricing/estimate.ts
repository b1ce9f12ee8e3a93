import { type Call, MAX_AMOUNT } from '../model/call.js'
import { COST_UNITS, type Cost, type CostUnit } from '../model/cost.js'
import { DEFAULTS } from '../model/defaults.js'
import { CallInvalid } from '../model/errors.js'
import { isAmount, jsonOf } from '../validation/call.js'
import { fieldName, show } from '../validation/faults.js'

/** A user's own estimate of what a call will cost: tokens, or a cost in any units. What it leaves out is estimated without it. */
export type Estimate = (call: Call) => number | Cost | Promise<number | Cost>

/** The tokens of a chat call, as the tokenizer estimates them. */
export interface ChatTokens {
  readonly inputTokens: number
  readonly outputTokens: number
}

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

function estimated(unit: CostUnit, value: unknown): number {
  if (!isAmount(value)) throw new CallInvalid(`cost.${unit}: the estimate must be a number from 0 to ${MAX_AMOUNT} (got ${show(value)})`)
  return value
}

function payloadOf(call: Call): ChatPayload {
  return call.payload !== null && typeof call.payload === 'object' ? call.payload : {}
}

/** As many tokens as a call may be answered with, by its payload; DEFAULTS.outputTokens where that does not say. May be beyond MAX_AMOUNT. */
export function answerTokens(call: Call): number {
  const { max_completion_tokens: newer, max_tokens: older } = payloadOf(call)
  if (typeof newer === 'number' && newer >= 0) return newer
  return typeof older === 'number' && older >= 0 ? older : DEFAULTS.outputTokens
}

/** The estimate of a call's output alone, which needs no tokenizer. @throws CallInvalid where it is more than MAX_AMOUNT */
export function estimateOutput(call: Call): number {
  return estimated('outputTokens', answerTokens(call))
}

async function inputOf(call: Call): Promise<number> {
  const count = await loadTokenizer()
  const { messages, system } = payloadOf(call)
  if (!Array.isArray(messages)) return call.payload === undefined ? 0 : count(typeof call.payload === 'string' ? call.payload : jsonOf(call.payload))
  const texts = messages.map(textOf)
  const prompt = textOf(system)
  if (prompt !== '') texts.push(prompt)
  return texts.reduce((sum, text) => sum + count(text) + TOKENS_PER_MESSAGE, TOKENS_OF_REPLY)
}

/**
 * Tokens that a chat call will use: its messages (o200k_base, the encoding of today's
 * GPT models; near enough for others, and settled later) and as many as it may answer
 * with. A payload without messages counts as its text.
 * @throws CallInvalid where they are more than MAX_AMOUNT, or JSON cannot hold the payload
 */
export async function estimateChat(call: Call): Promise<ChatTokens> {
  const inputTokens = await inputOf(call)
  const outputTokens = answerTokens(call)
  estimated('tokens', inputTokens + outputTokens)
  return { inputTokens, outputTokens }
}

function failed(cause: unknown): CallInvalid {
  // Refuses this call; others that are enqueued with it go on.
  return new CallInvalid(`cost.tokens: the estimate failed (${cause instanceof Error ? cause.message : show(cause)})`)
}

function costOf(answer: unknown): Cost {
  const fields = answer !== null && typeof answer === 'object' ? Object.keys(answer) : []
  if (fields.length === 0) return { tokens: estimated('tokens', answer) }
  const cost: Cost = {}
  for (const field of fields) {
    const value = (answer as Record<string, unknown>)[field]
    const unit = COST_UNITS.find((one) => one === field)
    if (unit === undefined) throw new CallInvalid(`${fieldName(['cost', field])}: the estimate names what is no unit of cost (got ${show(value)})`)
    if (value !== undefined) cost[unit] = estimated(unit, value)
  }
  return cost
}

/** What a user's estimate says of a call; at once where that says it at once. @throws CallInvalid where it fails or says no amount */
export function askEstimate(estimate: Estimate, call: Call): Cost | Promise<Cost> {
  let answer: unknown
  try {
    answer = estimate(call)
  } catch (cause) {
    throw failed(cause)
  }
  if (answer === null || typeof answer !== 'object' || !('then' in answer)) return costOf(answer)
  return Promise.resolve(answer).then(costOf, (cause) => {
    throw failed(cause)
  })
}

/** The tokens of a call: what it says itself, else the user's estimate, else that of the tokenizer. */
export async function estimateTokens(call: Call, estimate: Estimate | undefined): Promise<number> {
  if (call.cost?.tokens !== undefined) return call.cost.tokens
  const { tokens, inputTokens, outputTokens } = estimate === undefined ? {} : await askEstimate(estimate, call)
  if (tokens !== undefined) return tokens
  const chat = inputTokens !== undefined && outputTokens !== undefined ? { inputTokens, outputTokens } : await estimateChat(call)
  return estimated('tokens', (inputTokens ?? chat.inputTokens) + (outputTokens ?? chat.outputTokens))
}

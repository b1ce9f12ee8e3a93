import { type Call, MAX_AMOUNT } from '../model/call.js'
import { COST_UNITS, type Cost, type CostUnit } from '../model/cost.js'
import { DEFAULTS } from '../model/defaults.js'
import { CallInvalid } from '../model/errors.js'
import { isAmount, jsonOf } from '../validation/call.js'
import { fieldName, show } from '../validation/faults.js'

/** A custom estimate of the cost of a call: a number of tokens, or amounts by unit. Units that it leaves out are estimated by Tollgate. */
export type Estimate = (call: Call) => number | Cost | Promise<number | Cost>

/** The estimated tokens of a chat call. */
export interface ChatTokens {
  readonly inputTokens: number
  readonly outputTokens: number
}

/** OpenAI's chat format adds these tokens to each message, and to the reply. */
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
 * Cuts a text into slices for the tokenizer, whose time grows with the square of the longest word
 * (a megabyte of one letter takes minutes). Each slice adds one token at most.
 */
function slices(text: string): string[] {
  const cut: string[] = []
  for (let from = 0; from < text.length; from += SLICE_LENGTH) cut.push(text.slice(from, from + SLICE_LENGTH))
  return cut
}

let tokenizer: Promise<(text: string) => number> | undefined

/** Loads the tokenizer at its first use: it is large, and calls that bring their cost do not need it. */
function loadTokenizer(): Promise<(text: string) => number> {
  tokenizer ??= import('gpt-tokenizer').then(
    ({ countTokens }) =>
      (text) =>
        slices(text).reduce((sum, slice) => sum + countTokens(slice, { disallowedSpecial: new Set() }), 0),
  )
  return tokenizer
}

/** Checks an estimated amount. @throws CallInvalid */
function checkEstimate(unit: CostUnit, value: unknown): number {
  if (!isAmount(value)) throw new CallInvalid(`cost.${unit}: the estimate must be a number from 0 to ${MAX_AMOUNT} (got ${show(value)})`)
  return value
}

function payloadOf(call: Call): ChatPayload {
  return call.payload !== null && typeof call.payload === 'object' ? call.payload : {}
}

/** The most output tokens of a call: `max_completion_tokens` or `max_tokens` of its payload, else DEFAULTS.outputTokens. May exceed MAX_AMOUNT. */
export function outputBound(call: Call): number {
  const { max_completion_tokens: newer, max_tokens: older } = payloadOf(call)
  if (typeof newer === 'number' && newer >= 0) return newer
  return typeof older === 'number' && older >= 0 ? older : DEFAULTS.outputTokens
}

/** Estimates the output tokens of a call; needs no tokenizer. @throws CallInvalid where they exceed MAX_AMOUNT */
export function estimateOutput(call: Call): number {
  return checkEstimate('outputTokens', outputBound(call))
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
 * Estimates the tokens of a chat call: those of its messages, by OpenAI's encoding o200k_base (of
 * GPT-4o and later; close enough for other models, as the call is settled by its actual usage),
 * and the most that it may be answered with. A payload without messages counts as its text.
 * @throws CallInvalid where the tokens exceed MAX_AMOUNT, or the payload cannot be written as JSON
 */
export async function estimateChat(call: Call): Promise<ChatTokens> {
  const inputTokens = await inputOf(call)
  const outputTokens = outputBound(call)
  checkEstimate('tokens', inputTokens + outputTokens)
  return { inputTokens, outputTokens }
}

function failed(cause: unknown): CallInvalid {
  // CallInvalid fails this call only; the others of its batch are enqueued.
  return new CallInvalid(`cost.tokens: the estimate failed (${cause instanceof Error ? cause.message : show(cause)})`)
}

function costOf(answer: unknown): Cost {
  const fields = answer !== null && typeof answer === 'object' ? Object.keys(answer) : []
  if (fields.length === 0) return { tokens: checkEstimate('tokens', answer) }
  const cost: Cost = {}
  for (const field of fields) {
    const value = (answer as Record<string, unknown>)[field]
    const unit = COST_UNITS.find((one) => one === field)
    if (unit === undefined) throw new CallInvalid(`${fieldName(['cost', field])}: the estimate names what is no unit of cost (got ${show(value)})`)
    if (value !== undefined) cost[unit] = checkEstimate(unit, value)
  }
  return cost
}

/**
 * Runs a custom estimate. The answer is a promise only where the estimate returned one.
 * @throws CallInvalid (or rejects with it) where the estimate fails, or returns what is no cost
 */
export function runEstimate(estimate: Estimate, call: Call): Cost | Promise<Cost> {
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

import { type Call, MAX_AMOUNT } from '../model/call.js'
import { type ActualCosts, AS_ESTIMATED } from '../model/cost.js'
import { isAmount } from '../validation/call.js'
import { type Prices, usdOf } from './prices.js'

/** The usage of a call as its agent reported it; a field that is left out is unknown. */
export interface CallUsage {
  /** Input and output together. */
  tokens?: number | undefined
  /** All input, including what the cache fields below count. */
  inputTokens?: number | undefined
  outputTokens?: number | undefined
  /** The part of `inputTokens` that came from the provider's cache. */
  cachedInputTokens?: number | undefined
  /** The part of `inputTokens` that was written to the provider's cache. */
  cacheWriteTokens?: number | undefined
  /** US dollars; default: computed from input, output and the price of the model. */
  usd?: number | undefined
  points?: number | undefined
  requests?: number | undefined
}

const FIELDS = ['tokens', 'inputTokens', 'outputTokens', 'cachedInputTokens', 'cacheWriteTokens', 'usd', 'points', 'requests'] as const

/** A reported amount, or undefined where it is not a number from 0 to MAX_AMOUNT: such values are ignored. */
function count(value: unknown): number | undefined {
  return isAmount(value) ? value : undefined
}

/** The tokens of a usage, input and output together; undefined where it reports none. */
export function totalTokens(usage: CallUsage): number | undefined {
  const input = count(usage.inputTokens)
  const output = count(usage.outputTokens)
  const total = count(usage.tokens)
  if (total !== undefined) return total
  return input === undefined && output === undefined ? undefined : (input ?? 0) + (output ?? 0)
}

function field(value: unknown, name: string): unknown {
  return value !== null && typeof value === 'object' ? (value as Record<string, unknown>)[name] : undefined
}

/** The input of a usage. OpenAI counts cached tokens as part of the input, Anthropic beside it. */
function readInput(usage: unknown): Pick<CallUsage, 'inputTokens' | 'cachedInputTokens' | 'cacheWriteTokens'> {
  const read = count(field(usage, 'cache_read_input_tokens'))
  const written = count(field(usage, 'cache_creation_input_tokens'))
  const prompt = count(field(usage, 'prompt_tokens'))
  // Gateways that translate Anthropic's answers to OpenAI's form report both kinds of fields.
  if (prompt !== undefined) {
    return { inputTokens: prompt, cachedInputTokens: count(field(field(usage, 'prompt_tokens_details'), 'cached_tokens')) ?? read, cacheWriteTokens: written }
  }
  const input = count(field(usage, 'input_tokens'))
  if (input === undefined) return {}
  const cached = count(field(field(usage, 'input_tokens_details'), 'cached_tokens'))
  return { inputTokens: input + (written ?? 0) + (read ?? 0), cachedInputTokens: cached ?? read, cacheWriteTokens: written }
}

/**
 * Reads the usage of an answer in OpenAI's form (`usage.prompt_tokens`, `completion_tokens`; in the Responses API `input_tokens`, `output_tokens`) or
 * in Anthropic's (`usage.input_tokens`, `cache_*_input_tokens` beside it, `output_tokens`). Undefined where it reports neither input nor output.
 */
export function readUsage(answer: unknown): CallUsage | undefined {
  const usage = field(answer, 'usage')
  const amount = (name: string) => count(field(usage, name))
  const input = readInput(usage)
  const { inputTokens } = input
  const output = amount('completion_tokens') ?? amount('output_tokens')
  const total = amount('total_tokens')
  // Some gateways count Anthropic's cached tokens in the total, but not in the prompt.
  const beside = (amount('cache_read_input_tokens') ?? 0) + (amount('cache_creation_input_tokens') ?? 0)
  // Some agents count reasoning tokens in the total, but not in the output.
  const outputTokens = total === undefined || inputTokens === undefined ? output : Math.max(output ?? 0, total - inputTokens - beside)
  return inputTokens === undefined && outputTokens === undefined ? undefined : { ...input, outputTokens }
}

/**
 * The usage in a handler's result or error: `{ usage: … }` as a CallUsage, in the agent's own
 * form, or both mixed; of a field that both report the CallUsage counts. Undefined where there is none.
 */
export function usageOfResult(value: unknown): CallUsage | undefined {
  const usage = field(value, 'usage')
  if (usage === null || typeof usage !== 'object') return undefined
  const found: CallUsage = { ...readUsage(value) }
  for (const name of FIELDS) {
    const reported = count(field(usage, name))
    if (reported !== undefined) found[name] = reported
  }
  return Object.values(found).some((amount) => amount !== undefined) ? found : undefined
}

/**
 * The actual cost of a call by its reported usage; undefined in a unit that was not reported.
 * `usd` is computed where it was not reported and input, output and the model's price are known.
 */
export function actualCosts(usage: CallUsage | undefined, call: Call, prices: Prices): ActualCosts {
  if (usage === undefined) return AS_ESTIMATED
  const total = totalTokens(usage)
  const sum = count(usage.tokens)
  let inputTokens = count(usage.inputTokens)
  let outputTokens = count(usage.outputTokens)
  if (sum !== undefined) {
    if (inputTokens !== undefined) outputTokens ??= Math.max(0, sum - inputTokens)
    else if (outputTokens !== undefined) inputTokens = Math.max(0, sum - outputTokens)
  }
  let usd = count(usage.usd)
  const price = usd === undefined ? prices.priceOf(call.model) : undefined
  if (price !== undefined && inputTokens !== undefined && outputTokens !== undefined) {
    const cachedInputTokens = count(usage.cachedInputTokens) ?? 0
    const cacheWriteTokens = count(usage.cacheWriteTokens) ?? 0
    usd = Math.min(MAX_AMOUNT, usdOf(price, { inputTokens, cachedInputTokens, cacheWriteTokens, outputTokens }))
  }
  return {
    requests: count(usage.requests),
    tokens: total === undefined ? undefined : Math.min(MAX_AMOUNT, total),
    inputTokens,
    outputTokens,
    usd,
    points: count(usage.points),
  }
}

import { isAmount } from '../validation/call.js'

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
export function count(value: unknown): number | undefined {
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
 * The output by the total, where one is reported: the total minus the input. Some gateways count
 * Anthropic's cached tokens in the total but not in the prompt, so those are subtracted, too.
 */
function outputByTotal(usage: unknown, inputTokens: number): number | undefined {
  const total = count(field(usage, 'total_tokens'))
  if (total === undefined) return undefined
  const read = count(field(usage, 'cache_read_input_tokens')) ?? 0
  const written = count(field(usage, 'cache_creation_input_tokens')) ?? 0
  return Math.max(0, total - inputTokens - read - written)
}

/**
 * Reads the usage of an answer in OpenAI's form (`usage.prompt_tokens`, `completion_tokens`;
 * in the Responses API `input_tokens`, `output_tokens`) or in Anthropic's (`usage.input_tokens`,
 * `cache_*_input_tokens` beside it, `output_tokens`). Undefined where it reports neither input
 * nor output.
 */
export function readUsage(answer: unknown): CallUsage | undefined {
  const usage = field(answer, 'usage')
  const input = readInput(usage)
  const { inputTokens } = input
  const output = count(field(usage, 'completion_tokens')) ?? count(field(usage, 'output_tokens'))
  const rest = inputTokens === undefined ? undefined : outputByTotal(usage, inputTokens)
  // Some agents count reasoning tokens in the total, but not in the output.
  const outputTokens = rest === undefined ? output : Math.max(output ?? 0, rest)
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
  let own = false
  for (const name of FIELDS) {
    const reported = count(field(usage, name))
    if (reported === undefined) continue
    found[name] = reported
    own = true
  }
  return own || found.inputTokens !== undefined || found.outputTokens !== undefined ? found : undefined
}

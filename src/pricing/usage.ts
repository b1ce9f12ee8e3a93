import { isAmount } from '../validation/call.js'

/** What an agent says a call has used; what is left out is not known. */
export interface CallUsage {
  /** Everything, where the two below are not told apart. */
  tokens?: number | undefined
  /** All input, cached or not. */
  inputTokens?: number | undefined
  outputTokens?: number | undefined
  /** The part of `inputTokens` that came from the provider's cache. */
  cachedInputTokens?: number | undefined
  /** The part of `inputTokens` that was put into the provider's cache. */
  cacheWriteTokens?: number | undefined
  /** US dollars; where they are not told, they are worked out by the price of the model. */
  usd?: number | undefined
  points?: number | undefined
  requests?: number | undefined
}

const FIELDS = ['tokens', 'inputTokens', 'outputTokens', 'cachedInputTokens', 'cacheWriteTokens', 'usd', 'points', 'requests'] as const

/** What a usage says of a unit, where that can be believed: a number from 0 to MAX_AMOUNT. */
export function count(value: unknown): number | undefined {
  return isAmount(value) ? value : undefined
}

/** All tokens of a usage, or undefined where it tells of none. */
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

/** The input of a usage. OpenAI's cached tokens are part of the input, Anthropic's stand beside it. */
function readInput(usage: unknown): Pick<CallUsage, 'inputTokens' | 'cachedInputTokens' | 'cacheWriteTokens'> {
  const read = count(field(usage, 'cache_read_input_tokens'))
  const written = count(field(usage, 'cache_creation_input_tokens'))
  const prompt = count(field(usage, 'prompt_tokens'))
  // Gateways that speak OpenAI's form for Anthropic say both.
  if (prompt !== undefined) {
    return { inputTokens: prompt, cachedInputTokens: count(field(field(usage, 'prompt_tokens_details'), 'cached_tokens')) ?? read, cacheWriteTokens: written }
  }
  const input = count(field(usage, 'input_tokens'))
  if (input === undefined) return {}
  const cached = count(field(field(usage, 'input_tokens_details'), 'cached_tokens'))
  return { inputTokens: input + (written ?? 0) + (read ?? 0), cachedInputTokens: cached ?? read, cacheWriteTokens: written }
}

/** What a total leaves for the output, if there is one (of embeddings nothing). Gateways may count Anthropic's cached tokens beside the prompt. */
function restOf(usage: unknown, inputTokens: number): number | undefined {
  const total = count(field(usage, 'total_tokens'))
  if (total === undefined) return undefined
  const read = count(field(usage, 'cache_read_input_tokens')) ?? 0
  const written = count(field(usage, 'cache_creation_input_tokens')) ?? 0
  return Math.max(0, total - inputTokens - read - written)
}

/**
 * Reads the usage of an OpenAI-style answer (`usage.prompt_tokens`, `completion_tokens`,
 * or `input_tokens`, `output_tokens` of its Responses API) or an Anthropic-style one
 * (`usage.input_tokens`, the cached ones beside it, `output_tokens`). Undefined where it
 * tells of neither input nor output.
 */
export function readUsage(answer: unknown): CallUsage | undefined {
  const usage = field(answer, 'usage')
  const input = readInput(usage)
  const { inputTokens } = input
  const said = count(field(usage, 'completion_tokens')) ?? count(field(usage, 'output_tokens'))
  const rest = inputTokens === undefined ? undefined : restOf(usage, inputTokens)
  // Some leave the tokens of reasoning out of the output, and tell of them in the total alone.
  const outputTokens = rest === undefined ? said : Math.max(said ?? 0, rest)
  return inputTokens === undefined && outputTokens === undefined ? undefined : { ...input, outputTokens }
}

/**
 * The usage that a handler's result or error carries, if any: `{ usage: … }` in our form,
 * the agent's own, or both; of what both say ours counts.
 */
export function usageOfResult(value: unknown): CallUsage | undefined {
  const usage = field(value, 'usage')
  if (usage === null || typeof usage !== 'object') return undefined
  const found: CallUsage = { ...readUsage(value) }
  let own = false
  for (const name of FIELDS) {
    const said = count(field(usage, name))
    if (said === undefined) continue
    found[name] = said
    own = true
  }
  return own || found.inputTokens !== undefined || found.outputTokens !== undefined ? found : undefined
}

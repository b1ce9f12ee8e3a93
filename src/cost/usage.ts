import { MAX_AMOUNT } from '../call.js'

/** What an agent says a call has used. */
export interface CallUsage {
  /** Everything, where the two below are not told apart. */
  tokens?: number | undefined
  inputTokens?: number | undefined
  outputTokens?: number | undefined
}

function count(value: unknown): number | undefined {
  return typeof value === 'number' && value >= 0 && value <= MAX_AMOUNT ? value : undefined
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

/**
 * Reads the usage of an OpenAI-style answer (`usage.prompt_tokens`, `completion_tokens`,
 * or `input_tokens`, `output_tokens` of its Responses API) or an Anthropic-style one
 * (`usage.input_tokens`, the cached ones beside it, `output_tokens`).
 */
export function readUsage(answer: unknown): CallUsage | undefined {
  const usage = field(answer, 'usage')
  const prompt = count(field(usage, 'prompt_tokens'))
  const input = count(field(usage, 'input_tokens'))
  const inputTokens =
    prompt ??
    (input === undefined
      ? undefined
      : input + (count(field(usage, 'cache_creation_input_tokens')) ?? 0) + (count(field(usage, 'cache_read_input_tokens')) ?? 0))
  const outputTokens = count(field(usage, 'completion_tokens')) ?? count(field(usage, 'output_tokens'))
  return inputTokens === undefined && outputTokens === undefined ? undefined : { inputTokens, outputTokens }
}

/** The usage that a handler's result or error carries, if any: `{ usage: … }`, ours or the agent's own form. */
export function usageOf(value: unknown): CallUsage | undefined {
  const usage = field(value, 'usage')
  if (usage === null || typeof usage !== 'object') return undefined
  const own: CallUsage = {
    tokens: count(field(usage, 'tokens')),
    inputTokens: count(field(usage, 'inputTokens')),
    outputTokens: count(field(usage, 'outputTokens')),
  }
  return totalTokens(own) === undefined ? readUsage(value) : own
}

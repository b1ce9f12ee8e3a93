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
  /** The part of `inputTokens` that did not come from the provider's cache; default: `inputTokens` without `cachedInputTokens`. */
  uncachedInputTokens?: number | undefined
  /** US dollars; default: computed from input, output and the price of the model. */
  usd?: number | undefined
  points?: number | undefined
  requests?: number | undefined
}

const FIELDS = ['tokens', 'inputTokens', 'outputTokens', 'cachedInputTokens', 'cacheWriteTokens', 'uncachedInputTokens', 'usd', 'points', 'requests'] as const

const OURS = new Set<string>(FIELDS)

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

type Fields = Readonly<Record<string, unknown>>

/** The fields of an object by their names in camelCase, as some clients translate those of an API; none of anything else. */
function fieldsOf(value: unknown): Fields {
  if (value === null || typeof value !== 'object') return {}
  const of = Object.create(null) as Record<string, unknown>
  // A name that is in camelCase already goes before one that was translated.
  for (const [name, one] of Object.entries(value)) if (name.includes('_')) of[camelCase(name)] = one
  return Object.assign(of, value)
}

/** Names of fields that were translated: usages have few. */
const translated = new Map<string, string>()
const MOST_TRANSLATED = 1000
const LONGEST_TRANSLATED = 64

function camelCase(name: string): string {
  let known = translated.get(name)
  if (known === undefined) {
    known = name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())
    if (translated.size < MOST_TRANSLATED && name.length < LONGEST_TRANSLATED) translated.set(name, known)
  }
  return known
}

/** The first of these fields that is an amount. */
function first(of: Fields, ...names: readonly string[]): number | undefined {
  for (const name of names) if (isAmount(of[name])) return of[name]
  return undefined
}

/** The sum of the amounts among these values; undefined where none is an amount. */
function sum(...values: readonly unknown[]): number | undefined {
  const amounts = values.filter(isAmount)
  return amounts.length === 0 ? undefined : amounts.reduce((total, amount) => total + amount, 0)
}

/**
 * Reads a usage as its provider means it. Cached tokens are part of the input for OpenAI, Gemini, LangChain and the AI SDK (in details), and stand beside
 * it for Anthropic and Bedrock (in `cacheReadInputTokens` and the like). Where a total is given, it decides.
 */
function readFields(usage: unknown): CallUsage | undefined {
  const of = fieldsOf(usage)
  // Cohere says what it counted, and what it billed.
  for (const counted of [of['tokens'], of['billedUnits']]) {
    const usage = counted !== null && typeof counted === 'object' ? readFields(counted) : undefined
    if (usage !== undefined) return usage
  }
  const [input, output] = [fieldsOf(of['inputTokens']), fieldsOf(of['outputTokens'])]
  const details = { ...fieldsOf(of['promptTokensDetails']), ...fieldsOf(of['inputTokensDetails']), ...fieldsOf(of['inputTokenDetails']), ...input }
  const prompt = first(of, 'promptTokens', 'promptEvalCount') ?? sum(of['promptTokenCount'], of['toolUsePromptTokenCount'])
  const own = count(field(usage, 'inputTokens'))
  const base = own ?? prompt ?? first(of, 'inputTokens', 'inputTokenCount', 'inputTextTokenCount') ?? first(input, 'total')
  const answered = first(of, 'completionTokens', 'outputTokens', 'outputTokenCount', 'evalCount') ?? first(output, 'total')
  // Gemini's thoughts are no part of what it counts as its candidates.
  const outputs = answered ?? sum(first(of, 'candidatesTokenCount', 'responseTokenCount'), of['thoughtsTokenCount'])
  const total = first(of, 'totalTokens', 'totalTokenCount')

  const read = first(of, 'cacheReadInputTokens', 'cacheReadInputTokenCount')
  const written =
    first(of, 'cacheCreationInputTokens', 'cacheWriteInputTokens', 'cacheWriteInputTokenCount') ?? sum(...Object.values(of['cacheCreation'] ?? {}))
  const cachedInputTokens =
    first(details, 'cachedTokens', 'cacheReadTokens', 'cacheRead') ?? first(of, 'cachedInputTokens', 'cachedContentTokenCount', 'promptCacheHitTokens') ?? read
  const cacheWriteTokens = first(details, 'cacheWriteTokens', 'cacheWrite', 'cacheCreation') ?? first(of, 'cacheWriteTokens') ?? written
  if (base === undefined && outputs === undefined) return total === undefined || total === 0 ? undefined : { tokens: total }
  let inputTokens = base
  if (base !== undefined) {
    const cached = (read ?? 0) + (written ?? 0)
    const beside = total === undefined || outputs === undefined ? own !== undefined || prompt === undefined || cached > base : total >= base + cached + outputs
    if (beside && cached > 0) inputTokens = base + cached
    // The AI SDK hands on Anthropic's input without what was cached.
    else if (total !== undefined && (cachedInputTokens ?? 0) > base) inputTokens = base + (cachedInputTokens ?? 0)
  }
  // Some agents count reasoning tokens in the total, but not in the output.
  const outputTokens = total === undefined || inputTokens === undefined ? outputs : Math.max(outputs ?? 0, total - inputTokens)
  // A stream that was interrupted: no call has neither input nor output.
  if ((inputTokens ?? 0) + (outputTokens ?? 0) === 0) return undefined
  return { inputTokens, cachedInputTokens, cacheWriteTokens, outputTokens }
}

/** Where clients put the usage of an answer, in their order: all steps before the last one, the parts of a stream, Cohere, LangChain. */
function reportsIn(answer: unknown): unknown[] {
  const at = (...path: readonly string[]) => path.reduce(field, answer)
  const metadata = at('response_metadata')
  const reports = [at('totalUsage'), at('usage'), at('usageMetadata'), at('usage_metadata'), at('response', 'usage'), at('message', 'usage')]
  reports.push(field(metadata, 'tokenUsage'), field(metadata, 'usage'), at('llmOutput', 'tokenUsage'), at('amazon-bedrock-invocationMetrics'))
  if (at('meta', 'billed_units') !== undefined || at('meta', 'tokens') !== undefined) reports.push(at('meta'))
  // Ollama and Amazon Titan report at the top.
  if (['prompt_eval_count', 'eval_count', 'inputTextTokenCount'].some((name) => at(name) !== undefined)) reports.push(answer)
  return reports.filter((report) => report !== undefined && report !== null)
}

/**
 * Reads the usage of an agent's answer, in the form of OpenAI (chat, responses, embeddings), Anthropic, Bedrock, Gemini, Cohere, Ollama, the AI SDK or
 * LangChain. Undefined where it reports no tokens.
 */
export function readUsage(answer: unknown): CallUsage | undefined {
  for (const report of reportsIn(answer)) {
    const usage = readFields(report)
    if (usage !== undefined) return usage
  }
  return undefined
}

/**
 * The usage in a handler's result or error: `{ usage: … }` as a CallUsage, in the agent's own
 * form, or both mixed; of a field that both report the CallUsage counts. Undefined where there is none.
 */
export function usageOfResult(value: unknown): CallUsage | undefined {
  if (value === null || typeof value !== 'object') return undefined
  const own = field(value, 'usage')
  // Most handlers report in our form alone.
  const isOurs = own !== null && typeof own === 'object' && Object.entries(own).every(([name, one]) => OURS.has(name) && typeof one !== 'object')
  const found: CallUsage = isOurs ? {} : { ...readUsage(value) }
  for (const name of FIELDS) {
    const reported = count(field(own, name))
    // Its input may be without what was cached: see `readFields`.
    if (reported !== undefined) found[name] = name === 'inputTokens' || name === 'outputTokens' ? (found[name] ?? reported) : reported
  }
  if (Object.values(found).some((amount) => amount !== undefined)) return found
  const output = field(value, 'output')
  return own === undefined && output !== undefined ? readUsage(output) : undefined
}

/** Whether a handler's result or error has what ought to be a usage. */
export function bringsUsage(value: unknown): boolean {
  return reportsIn(value).length > 0 || reportsIn(field(value, 'output')).length > 0
}

/** Two reports of one call that goes on: each field keeps its largest value, since a part may leave out what another part said. */
export function mergeParts(before: CallUsage, part: CallUsage): CallUsage {
  const merged: CallUsage = { ...before }
  for (const name of FIELDS) {
    const reported = count(part[name])
    if (reported !== undefined) merged[name] = Math.max(merged[name] ?? 0, reported)
  }
  if (merged.tokens !== undefined) merged.tokens = Math.max(merged.tokens, (merged.inputTokens ?? 0) + (merged.outputTokens ?? 0))
  return merged
}

/** The usage of a call that has ended: its last report, completed by what only its parts said. */
export function completed(last: CallUsage | undefined, parts: CallUsage | undefined): CallUsage | undefined {
  if (last === undefined || parts === undefined) return last ?? parts
  const usage: CallUsage = { ...parts }
  for (const name of FIELDS) if (count(last[name]) !== undefined) usage[name] = last[name]
  const { tokens, inputTokens, outputTokens } = usage
  // The sum of the parts is not that of the last report.
  if (count(last.tokens) !== undefined || (count(last.inputTokens) ?? count(last.outputTokens)) === undefined) return usage
  const both = inputTokens !== undefined && outputTokens !== undefined
  return { ...usage, tokens: both || tokens === undefined ? undefined : Math.max(tokens, inputTokens ?? 0, outputTokens ?? 0) }
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
    uncachedInputTokens:
      count(usage.uncachedInputTokens) ?? (inputTokens === undefined ? undefined : Math.max(0, inputTokens - (count(usage.cachedInputTokens) ?? 0))),
  }
}

import { type Call, MAX_AMOUNT } from '../model/call.js'
import { COST_UNITS, type Cost, type Costs, type CostUnit } from '../model/cost.js'
import { CallInvalid } from '../model/errors.js'
import { isAmount } from '../validation/call.js'
import { fieldName, show } from '../validation/faults.js'
import { inputOf, outputBound } from './payload.js'
import { type Price, type Prices, usdOf } from './prices.js'
import { countTokens } from './tokenizer.js'

/** A custom estimate of the cost of a call: a number of tokens, or amounts by unit. Units that it leaves out are estimated by Tollgate. */
export type Estimate = (call: Call) => number | Cost | Promise<number | Cost>

export type ChatTokens = Pick<Costs, 'inputTokens' | 'outputTokens'>

/** Checks an estimated amount. @throws CallInvalid */
function checkEstimate(unit: CostUnit, value: unknown): number {
  if (!isAmount(value)) throw new CallInvalid(`cost.${unit}: the estimate must be a number from 0 to ${MAX_AMOUNT} (got ${show(value)})`)
  return value
}

/**
 * Estimates the tokens of a call by its payload: of its texts by OpenAI's encoding o200k_base (of GPT-4o and later; close enough for other models, as
 * the call is settled by its actual usage), of pictures and the like by their size, and the most that it may be answered with.
 * @throws CallInvalid where the tokens exceed MAX_AMOUNT, or the payload cannot be written as JSON
 */
export async function estimateChat(call: Call): Promise<ChatTokens> {
  return estimateTokens(call, undefined)
}

/** The same where the output tokens may be known. */
async function estimateTokens(call: Call, known: number | undefined): Promise<ChatTokens> {
  // Read before the first wait: the payload is its caller's.
  const { texts, tokens } = inputOf(call)
  const outputTokens = known ?? outputBound(call)
  const inputTokens = tokens + (await countTokens(texts))
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

const NO_COST: Cost = Object.freeze({})

/** Whether `usd` is counted but not known, so that it has to be computed from the tokens and a price. */
function needsPrice(known: Cost, needed: ReadonlySet<CostUnit>): boolean {
  return known.usd === undefined && needed.has('usd')
}

/** Whether the input or the output tokens have to be estimated: they, their sum or their price are counted, and they follow from nothing known. */
function lacks(unit: 'inputTokens' | 'outputTokens', known: Cost, needed: ReadonlySet<CostUnit>): boolean {
  if (known.tokens !== undefined || known[unit] !== undefined) return false
  const isInput = unit === 'inputTokens' && known.uncachedInputTokens === undefined && needed.has('uncachedInputTokens')
  return isInput || needed.has('tokens') || needed.has(unit) || needsPrice(known, needed)
}

/**
 * Whether to run the custom estimate: a unit is counted that the call does not bring. Missing
 * `requests` alone do not count: nearly every rule counts them, and the default of 1 is right.
 */
function needsEstimate(call: Call, given: Cost, needed: ReadonlySet<CostUnit>, prices: Prices): boolean {
  if (needed.has('points') && given.points === undefined) return true
  if (lacks('inputTokens', given, needed) || lacks('outputTokens', given, needed)) return true
  return needsPrice(given, needed) && prices.priceOf(call.model) === undefined
}

/** The tokens of an estimate minus those that are known. */
function remainingTokens(estimated: Cost, known: number): number | undefined {
  return estimated.tokens === undefined ? undefined : Math.max(0, estimated.tokens - known)
}

/** The cost that a call brings, completed by its custom estimate. Of the tokens only the missing ones are taken, so that the sum stays consistent. */
function merged(given: Cost, estimated: Cost): Cost {
  let { tokens, inputTokens, outputTokens } = given
  if (tokens === undefined) {
    if (inputTokens === undefined && outputTokens === undefined) ({ tokens, inputTokens, outputTokens } = estimated)
    else if (outputTokens === undefined) outputTokens = estimated.outputTokens ?? remainingTokens(estimated, inputTokens as number)
    else inputTokens ??= estimated.inputTokens ?? remainingTokens(estimated, outputTokens)
  }
  return {
    requests: given.requests ?? estimated.requests,
    tokens,
    inputTokens,
    outputTokens,
    usd: given.usd ?? estimated.usd,
    points: given.points ?? estimated.points,
    uncachedInputTokens: given.uncachedInputTokens ?? estimated.uncachedInputTokens,
  }
}

function priceFor(call: Call, prices: Prices): Price {
  const price = prices.priceOf(call.model)
  if (price !== undefined) return price
  if (call.model === undefined) throw new CallInvalid('cost.usd: no price for a call without a model; give a price for "*" under prices, or say cost.usd')
  throw new CallInvalid(`cost.usd: no price for model "${fieldName([call.model])}"; add it under prices, give a price for "*", or say cost.usd`)
}

/** The costs of a call, once nothing is left to estimate. Always of one shape, so that the reads of the gate stay monomorphic. */
function costsOf(call: Call, known: Cost, needed: ReadonlySet<CostUnit>, price: Price | undefined): Costs {
  let { tokens, inputTokens, outputTokens } = known
  if (tokens === undefined) {
    if (inputTokens !== undefined && outputTokens !== undefined) tokens = inputTokens + outputTokens
  } else if (inputTokens === undefined) {
    // The payload is read only where its share of the tokens counts: most calls that say their tokens are counted by them alone.
    if (price !== undefined || needed.has('inputTokens') || needed.has('outputTokens') || needed.has('uncachedInputTokens'))
      outputTokens ??= Math.min(tokens, outputBound(call))
    inputTokens = Math.max(0, tokens - (outputTokens ?? 0))
  } else outputTokens ??= Math.max(0, tokens - inputTokens)
  const used = { inputTokens: inputTokens ?? 0, cachedInputTokens: 0, cacheWriteTokens: 0, outputTokens: outputTokens ?? 0 }
  const usd = known.usd ?? (price === undefined ? 0 : usdOf(price, used))
  const given = call.cost ?? NO_COST
  // A sum or a price of valid amounts can exceed the largest amount.
  return {
    requests: known.requests ?? 1,
    tokens: given.tokens ?? (needed.has('tokens') ? Math.min(MAX_AMOUNT, tokens ?? 0) : 0),
    inputTokens: given.inputTokens ?? (needed.has('inputTokens') ? used.inputTokens : 0),
    outputTokens: given.outputTokens ?? (needed.has('outputTokens') ? used.outputTokens : 0),
    usd: given.usd ?? (needed.has('usd') ? Math.min(MAX_AMOUNT, usd) : 0),
    points: known.points ?? 1,
    // What the provider has in its cache is known when the call has ended.
    uncachedInputTokens: known.uncachedInputTokens ?? (needed.has('uncachedInputTokens') ? used.inputTokens : 0),
  }
}

function complete(call: Call, known: Cost, needed: ReadonlySet<CostUnit>, prices: Prices): Costs | Promise<Costs> {
  // First: without a price the call is invalid, and the tokenizer's work would be wasted.
  const price = needsPrice(known, needed) ? priceFor(call, prices) : undefined
  if (!lacks('inputTokens', known, needed)) {
    const outputTokens = known.outputTokens ?? (lacks('outputTokens', known, needed) ? checkEstimate('outputTokens', outputBound(call)) : undefined)
    return costsOf(call, outputTokens === known.outputTokens ? known : { ...known, outputTokens }, needed, price)
  }
  return estimateTokens(call, known.outputTokens).then((estimated) => costsOf(call, { ...known, ...estimated }, needed, price))
}

/**
 * The expected cost of a call in the units that are `needed`. Each amount comes from the first of these sources that has it: the call's own `cost`;
 * the custom estimate; a sum, difference or price of known amounts; the tokenizer. A unit that is neither needed nor given is 0, but `requests` and
 * `points` are 1. The answer is a promise only where something has to be estimated.
 * @throws CallInvalid (or rejects with it) where an estimate is not valid, or where `usd` is needed, not given, and the model has no price
 */
export function estimateCosts(call: Call, needed: ReadonlySet<CostUnit>, prices: Prices, estimate: Estimate | undefined): Costs | Promise<Costs> {
  const given = call.cost ?? NO_COST
  if (estimate === undefined || !needsEstimate(call, given, needed, prices)) return complete(call, given, needed, prices)
  const answer = runEstimate(estimate, call)
  const completed = (estimated: Cost) => complete(call, merged(given, estimated), needed, prices)
  return answer instanceof Promise ? answer.then(completed) : completed(answer)
}

import { type Call, MAX_AMOUNT } from '../model/call.js'
import { type ActualCosts, AS_ESTIMATED, type Cost, type Costs, type CostUnit } from '../model/cost.js'
import { CallInvalid } from '../model/errors.js'
import { fieldName } from '../validation/faults.js'
import { type Estimate, estimateChat, estimateOutput, outputBound, runEstimate } from './estimate.js'
import { type Price, type Prices, usdOf } from './prices.js'
import { type CallUsage, count, totalTokens } from './usage.js'

const NO_COST: Cost = Object.freeze({})

/** Cuts to the largest amount: a sum or a price of valid amounts can exceed it. */
function bounded(amount: number): number {
  return Math.min(MAX_AMOUNT, amount)
}

/** Whether `usd` is counted but not known, so that it has to be computed from the tokens and a price. */
function needsPrice(known: Cost, needed: ReadonlySet<CostUnit>): boolean {
  return known.usd === undefined && needed.has('usd')
}

/** Whether the input tokens have to be estimated: they, their sum or their price are counted, and they follow from nothing known. */
function lacksInput(known: Cost, needed: ReadonlySet<CostUnit>): boolean {
  if (known.tokens !== undefined || known.inputTokens !== undefined) return false
  return needed.has('tokens') || needed.has('inputTokens') || needsPrice(known, needed)
}

/** Whether the output tokens have to be estimated; see `lacksInput`. */
function lacksOutput(known: Cost, needed: ReadonlySet<CostUnit>): boolean {
  if (known.tokens !== undefined || known.outputTokens !== undefined) return false
  return needed.has('tokens') || needed.has('outputTokens') || needsPrice(known, needed)
}

/**
 * Whether to run the custom estimate: a unit is counted that the call does not bring. Missing
 * `requests` alone do not count: nearly every rule counts them, and the default of 1 is right.
 */
function needsEstimate(call: Call, given: Cost, needed: ReadonlySet<CostUnit>, prices: Prices): boolean {
  if (needed.has('points') && given.points === undefined) return true
  if (lacksInput(given, needed) || lacksOutput(given, needed)) return true
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
    outputTokens ??= Math.min(tokens, outputBound(call))
    inputTokens = Math.max(0, tokens - outputTokens)
  } else outputTokens ??= Math.max(0, tokens - inputTokens)
  const used = { inputTokens: inputTokens ?? 0, cachedInputTokens: 0, cacheWriteTokens: 0, outputTokens: outputTokens ?? 0 }
  const usd = known.usd ?? (price === undefined ? 0 : usdOf(price, used))
  const given = call.cost ?? NO_COST
  return {
    requests: known.requests ?? 1,
    tokens: given.tokens ?? (needed.has('tokens') ? bounded(tokens ?? 0) : 0),
    inputTokens: given.inputTokens ?? (needed.has('inputTokens') ? used.inputTokens : 0),
    outputTokens: given.outputTokens ?? (needed.has('outputTokens') ? used.outputTokens : 0),
    usd: given.usd ?? (needed.has('usd') ? bounded(usd) : 0),
    points: known.points ?? 1,
  }
}

function complete(call: Call, known: Cost, needed: ReadonlySet<CostUnit>, prices: Prices): Costs | Promise<Costs> {
  // First: without a price the call is invalid, and the tokenizer's work would be wasted.
  const price = needsPrice(known, needed) ? priceFor(call, prices) : undefined
  if (!lacksInput(known, needed)) {
    const outputTokens = known.outputTokens ?? (lacksOutput(known, needed) ? estimateOutput(call) : undefined)
    return costsOf(call, outputTokens === known.outputTokens ? known : { ...known, outputTokens }, needed, price)
  }
  return estimateChat(call).then(({ inputTokens, outputTokens }) =>
    costsOf(call, { ...known, inputTokens, outputTokens: known.outputTokens ?? outputTokens }, needed, price),
  )
}

/**
 * The expected cost of a call in the units that are `needed`. Each amount comes from the first
 * of these sources that has it: the call's own `cost`; the custom estimate; a sum, difference or
 * price of known amounts; the tokenizer. A unit that is neither needed nor given is 0, but
 * `requests` and `points` are 1. The answer is a promise only where something has to be estimated.
 * @throws CallInvalid (or rejects with it) where an estimate is not valid, or where `usd` is
 * needed, not given, and the model has no price
 */
export function estimateCosts(call: Call, needed: ReadonlySet<CostUnit>, prices: Prices, estimate: Estimate | undefined): Costs | Promise<Costs> {
  const given = call.cost ?? NO_COST
  if (estimate === undefined || !needsEstimate(call, given, needed, prices)) return complete(call, given, needed, prices)
  const answer = runEstimate(estimate, call)
  if (answer instanceof Promise) return answer.then((later) => complete(call, merged(given, later), needed, prices))
  return complete(call, merged(given, answer), needed, prices)
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
    usd = bounded(usdOf(price, { inputTokens, cachedInputTokens, cacheWriteTokens, outputTokens }))
  }
  return {
    requests: count(usage.requests),
    tokens: total === undefined ? undefined : bounded(total),
    inputTokens,
    outputTokens,
    usd,
    points: count(usage.points),
  }
}

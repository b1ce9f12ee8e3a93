import { type Call, MAX_AMOUNT } from '../model/call.js'
import { type ActualCosts, AS_ESTIMATED, type Cost, type Costs, type CostUnit } from '../model/cost.js'
import { CallInvalid } from '../model/errors.js'
import { fieldName } from '../validation/faults.js'
import { answerTokens, askEstimate, type Estimate, estimateChat, estimateOutput } from './estimate.js'
import { type Price, type Prices, usdOf } from './prices.js'
import { type CallUsage, count, totalTokens } from './usage.js'

const NOTHING_SAID: Cost = Object.freeze({})

/** Sums and prices of amounts can be more than one amount may be. */
function bounded(amount: number): number {
  return Math.min(MAX_AMOUNT, amount)
}

/** Whether dollars are counted that nobody has said: then all tokens must be known. */
function wantsPrice(known: Cost, needed: ReadonlySet<CostUnit>): boolean {
  return known.usd === undefined && needed.has('usd')
}

/** Whether the tokens that a call sends have to be estimated: they are counted, or their sum or price is, and nothing tells them. */
function lacksInput(known: Cost, needed: ReadonlySet<CostUnit>): boolean {
  if (known.tokens !== undefined || known.inputTokens !== undefined) return false
  return needed.has('tokens') || needed.has('inputTokens') || wantsPrice(known, needed)
}

/** The same of the tokens that it is answered with. */
function lacksOutput(known: Cost, needed: ReadonlySet<CostUnit>): boolean {
  if (known.tokens !== undefined || known.outputTokens !== undefined) return false
  return needed.has('tokens') || needed.has('outputTokens') || wantsPrice(known, needed)
}

/** Whether a user's estimate is asked: something is counted that the call does not tell. Not for `requests` alone: nearly every rule counts them. */
function asksEstimate(call: Call, said: Cost, needed: ReadonlySet<CostUnit>, prices: Prices): boolean {
  if (needed.has('points') && said.points === undefined) return true
  if (lacksInput(said, needed) || lacksOutput(said, needed)) return true
  return wantsPrice(said, needed) && prices.priceOf(call.model) === undefined
}

/** What remains of an estimate of all tokens for the part that the call does not say. */
function restOf(answer: Cost, part: number): number | undefined {
  return answer.tokens === undefined ? undefined : Math.max(0, answer.tokens - part)
}

/** What a call says, with what a user's estimate adds to it. Of the tokens only what the call leaves open, so that they never contradict each other. */
function merged(said: Cost, answer: Cost): Cost {
  let { tokens, inputTokens, outputTokens } = said
  if (tokens === undefined) {
    if (inputTokens === undefined && outputTokens === undefined) ({ tokens, inputTokens, outputTokens } = answer)
    else if (outputTokens === undefined) outputTokens = answer.outputTokens ?? restOf(answer, inputTokens as number)
    else inputTokens ??= answer.inputTokens ?? restOf(answer, outputTokens)
  }
  return {
    requests: said.requests ?? answer.requests,
    tokens,
    inputTokens,
    outputTokens,
    usd: said.usd ?? answer.usd,
    points: said.points ?? answer.points,
  }
}

function priceFor(call: Call, prices: Prices): Price {
  const price = prices.priceOf(call.model)
  if (price !== undefined) return price
  if (call.model === undefined) throw new CallInvalid('cost.usd: no price for a call without a model; give a price for "*" under prices, or say cost.usd')
  throw new CallInvalid(`cost.usd: no price for model "${fieldName([call.model])}"; add it under prices, give a price for "*", or say cost.usd`)
}

/** The costs, where nothing is left to estimate. Always of one shape: the gate reads them on every call. */
function costsOf(call: Call, known: Cost, needed: ReadonlySet<CostUnit>, price: Price | undefined): Costs {
  let { tokens, inputTokens, outputTokens } = known
  if (tokens === undefined) {
    if (inputTokens !== undefined && outputTokens !== undefined) tokens = inputTokens + outputTokens
  } else if (inputTokens === undefined) {
    outputTokens ??= Math.min(tokens, answerTokens(call))
    inputTokens = Math.max(0, tokens - outputTokens)
  } else outputTokens ??= Math.max(0, tokens - inputTokens)
  const used = { inputTokens: inputTokens ?? 0, cachedInputTokens: 0, cacheWriteTokens: 0, outputTokens: outputTokens ?? 0 }
  const usd = known.usd ?? (price === undefined ? 0 : usdOf(price, used))
  const said = call.cost ?? NOTHING_SAID
  return {
    requests: known.requests ?? 1,
    tokens: said.tokens ?? (needed.has('tokens') ? bounded(tokens ?? 0) : 0),
    inputTokens: said.inputTokens ?? (needed.has('inputTokens') ? used.inputTokens : 0),
    outputTokens: said.outputTokens ?? (needed.has('outputTokens') ? used.outputTokens : 0),
    usd: said.usd ?? (needed.has('usd') ? bounded(usd) : 0),
    points: known.points ?? 1,
  }
}

function complete(call: Call, known: Cost, needed: ReadonlySet<CostUnit>, prices: Prices): Costs | Promise<Costs> {
  // Before the tokenizer's work: without a price it would be in vain.
  const price = wantsPrice(known, needed) ? priceFor(call, prices) : undefined
  if (!lacksInput(known, needed)) {
    const outputTokens = known.outputTokens ?? (lacksOutput(known, needed) ? estimateOutput(call) : undefined)
    return costsOf(call, outputTokens === known.outputTokens ? known : { ...known, outputTokens }, needed, price)
  }
  return estimateChat(call).then(({ inputTokens, outputTokens }) =>
    costsOf(call, { ...known, inputTokens, outputTokens: known.outputTokens ?? outputTokens }, needed, price),
  )
}

/**
 * What a call is expected to cost in the units that are `needed`. What the call says goes
 * first, then the user's estimate, then what follows from them (a sum, a difference, a
 * price), then the tokenizer. A unit that is neither needed nor said is 0; `requests` and
 * `points` are 1 then. Answers at once where nothing has to be estimated, else a promise.
 * @throws CallInvalid (or rejects with it) where an estimate is not valid, and where
 * dollars are needed and neither said nor known by the model's price
 */
export function estimateCosts(call: Call, needed: ReadonlySet<CostUnit>, prices: Prices, estimate: Estimate | undefined): Costs | Promise<Costs> {
  const said = call.cost ?? NOTHING_SAID
  if (estimate === undefined || !asksEstimate(call, said, needed, prices)) return complete(call, said, needed, prices)
  const answer = askEstimate(estimate, call)
  if (answer instanceof Promise) return answer.then((later) => complete(call, merged(said, later), needed, prices))
  return complete(call, merged(said, answer), needed, prices)
}

/**
 * What a call has really cost by its usage; undefined in a unit where that does not tell.
 * Dollars that it does not say are worked out where input, output and the price of the
 * model are known.
 */
export function actualCosts(usage: CallUsage | undefined, call: Call, prices: Prices): ActualCosts {
  if (usage === undefined) return AS_ESTIMATED
  const total = totalTokens(usage)
  const said = count(usage.tokens)
  let inputTokens = count(usage.inputTokens)
  let outputTokens = count(usage.outputTokens)
  if (said !== undefined) {
    if (inputTokens !== undefined) outputTokens ??= Math.max(0, said - inputTokens)
    else if (outputTokens !== undefined) inputTokens = Math.max(0, said - outputTokens)
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

import { z } from 'zod'
import { MAX_NAME_LENGTH } from '../model/call.js'
import { compileGlob, isGlob } from '../validation/patterns.js'

/** The largest price, in US dollars per million tokens. */
export const MAX_PRICE = 1e6
/** Prices are for this many tokens. */
const PRICED_TOKENS = 1e6
/** The most models whose price is cached: the names come from calls, so their number is unbounded. */
const CACHED_MODELS = 1000

/** The price of a model, in US dollars per million tokens; each number is from 0 to 1e6. */
export interface Price {
  input: number
  /** For input that the provider read from its cache; default `input`. */
  cachedInput?: number | undefined
  /** For input that the provider wrote to its cache; default `input`. */
  cacheWrite?: number | undefined
  output: number
}

/** Prices by the name of a model, or by a glob (* and ?). An exact name goes first, then the longest glob. "*" also prices calls without a model. */
export type PriceTable = Record<string, Price>

/** The tokens of a call; `inputTokens` includes the cached and the cache-written ones. */
export type PricedTokens = Readonly<Record<'inputTokens' | 'cachedInputTokens' | 'cacheWriteTokens' | 'outputTokens', number>>

export interface Prices {
  /**
   * The price of a model: that of its exact name, else of the longest glob that matches (of
   * equally long ones the first in the table), else undefined. Without a model: that of "*".
   */
  priceOf(model: string | undefined): Price | undefined
}

const price = z.number(`must be a number from 0 to ${MAX_PRICE}, in US dollars per million tokens`).min(0).max(MAX_PRICE)

export const priceTableSchema = z
  .record(z.string(), z.strictObject({ input: price, cachedInput: price.optional(), cacheWrite: price.optional(), output: price }))
  .superRefine((table, context) => {
    for (const model of Object.keys(table)) {
      if (model.length === 0 || model.length > MAX_NAME_LENGTH)
        context.addIssue({ code: 'custom', path: [model], message: `is not the name of a model or a glob, of 1 to ${MAX_NAME_LENGTH} characters` })
    }
  })

/** Compiles a price table, once per version of the policy. */
export function compilePrices(table: Readonly<PriceTable>): Prices {
  const named = new Map(Object.entries(table))
  const globs = [...named]
    .filter(([pattern]) => isGlob(pattern))
    .sort(([a], [b]) => b.length - a.length)
    .map(([pattern, found]) => ({ fits: compileGlob(pattern), found }))
  const cache = new Map<string, Price | undefined>()
  return {
    priceOf(model) {
      if (model === undefined) return named.get('*')
      const exact = named.get(model)
      if (exact !== undefined || globs.length === 0) return exact
      if (cache.has(model)) return cache.get(model)
      const found = globs.find(({ fits }) => fits(model))?.found
      if (cache.size >= CACHED_MODELS) cache.clear()
      cache.set(model, found)
      return found
    },
  }
}

/** The price of tokens in US dollars. Cached and cache-written tokens are cut to the input, so that no input is priced twice. */
export function usdOf(price: Price, tokens: PricedTokens): number {
  const cached = Math.min(tokens.cachedInputTokens, tokens.inputTokens)
  const written = Math.min(tokens.cacheWriteTokens, tokens.inputTokens - cached)
  const plain = tokens.inputTokens - cached - written
  const input = plain * price.input + cached * (price.cachedInput ?? price.input) + written * (price.cacheWrite ?? price.input)
  return (input + tokens.outputTokens * price.output) / PRICED_TOKENS
}

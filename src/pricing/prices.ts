import { z } from 'zod'
import { MAX_NAME_LENGTH } from '../model/call.js'
import { compileGlob, isGlob } from '../validation/patterns.js'

/** The largest price, in US dollars per million tokens. */
export const MAX_PRICE = 1e6
/** Tokens that a price is for. */
const PRICED_TOKENS = 1e6
/** Models whose price is remembered, at most: names of models come with calls. */
const REMEMBERED = 1000

/** What a model costs, in US dollars per million tokens; each from 0 to MAX_PRICE. */
export interface Price {
  input: number
  /** Of input that the provider had in its cache; default `input`. */
  cachedInput?: number | undefined
  /** Of input that the provider puts into its cache; default `input`. */
  cacheWrite?: number | undefined
  output: number
}

/** Prices by the name of the model, or a glob over names. */
export type PriceTable = Record<string, Price>

/** The tokens of a call; the cached and the cache-written ones are part of `inputTokens`. */
export interface PricedTokens {
  readonly inputTokens: number
  readonly cachedInputTokens: number
  readonly cacheWriteTokens: number
  readonly outputTokens: number
}

/** A price table, ready to be asked. */
export interface Prices {
  /**
   * The price of a model: that under its exact name, else under the longest glob that fits
   * (of equally long ones the first in the table). Undefined where there is none. A call
   * without a model has the price of "*".
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

/** Works out everything about prices that does not depend on a call. */
export function compilePrices(table: Readonly<PriceTable>): Prices {
  const named = new Map(Object.entries(table))
  const globs = [...named]
    .filter(([pattern]) => isGlob(pattern))
    .sort(([a], [b]) => b.length - a.length)
    .map(([pattern, found]) => ({ fits: compileGlob(pattern), found }))
  const remembered = new Map<string, Price | undefined>()
  return {
    priceOf(model) {
      if (model === undefined) return named.get('*')
      const exact = named.get(model)
      if (exact !== undefined || globs.length === 0) return exact
      if (remembered.has(model)) return remembered.get(model)
      const found = globs.find(({ fits }) => fits(model))?.found
      if (remembered.size >= REMEMBERED) remembered.clear()
      remembered.set(model, found)
      return found
    },
  }
}

/** What tokens cost, in US dollars. Never more than all input is priced, whatever is said of its parts. */
export function usdOf(price: Price, tokens: PricedTokens): number {
  const cached = Math.min(tokens.cachedInputTokens, tokens.inputTokens)
  const written = Math.min(tokens.cacheWriteTokens, tokens.inputTokens - cached)
  const plain = tokens.inputTokens - cached - written
  const input = plain * price.input + cached * (price.cachedInput ?? price.input) + written * (price.cacheWrite ?? price.input)
  return (input + tokens.outputTokens * price.output) / PRICED_TOKENS
}

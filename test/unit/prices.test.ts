import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseRules } from '../../src/policy/rules-file.js'
import { compilePrices, MAX_PRICE, type Price, type PricedTokens, priceTableSchema, usdOf } from '../../src/pricing/prices.js'

const flat = (usd: number): Price => ({ input: usd, output: usd })
const tokens = (given: Partial<PricedTokens>): PricedTokens => ({ inputTokens: 0, cachedInputTokens: 0, cacheWriteTokens: 0, outputTokens: 0, ...given })

const TABLE = {
  '*': flat(1),
  'gpt-*': flat(2),
  'gpt-4o*': flat(3),
  'gpt-4o-mini': flat(4),
  'gpt-?': flat(5),
  'b?': flat(6),
  '?b': flat(7),
  'odd*name': flat(8),
}

test.each([
  ['gpt-4o-mini', 4],
  ['gpt-4o-mini-2024', 3],
  ['gpt-4o', 3],
  ['gpt-3.5', 2],
  ['gpt-5', 2],
  ['bb', 6],
  ['xb', 7],
  ['odd*name', 8],
  ['llama', 1],
  ['GPT-4o', 1],
  [undefined, 1],
])('%s has the price of its exact name, else of the longest glob that matches', (model, usd) => {
  const prices = compilePrices(TABLE)
  expect(prices.priceOf(model)?.input).toBe(usd)
  expect(prices.priceOf(model)?.input, 'from the cache').toBe(usd)
})

test('a model that no name and no glob fits has no price, nor has a call without a model', () => {
  const prices = compilePrices({ 'gpt-*': flat(1) })
  for (const model of [undefined, 'claude', '', 'constructor', '__proto__', 'toString', '*']) {
    expect(prices.priceOf(model)).toBeUndefined()
    expect(compilePrices({}).priceOf(model)).toBeUndefined()
  }
})

test('prices stay right for more models than the cache holds', () => {
  const prices = compilePrices({ 'a*': flat(1), 'b*': flat(2) })
  for (let round = 0; round < 2; round++) {
    for (let i = 0; i < 3000; i++) {
      expect(prices.priceOf(`a${i}`)?.input).toBe(1)
      expect(prices.priceOf(`b${i}`)?.input).toBe(2)
      expect(prices.priceOf(`c${i}`)).toBeUndefined()
    }
  }
})

test('a name without * and ? is the price of one model', () => {
  fc.assert(
    fc.property(fc.string({ minLength: 1 }), fc.string(), (name, model) => {
      fc.pre(!/[*?]/.test(name) && name !== '__proto__')
      expect(compilePrices({ [name]: flat(1) }).priceOf(model) !== undefined).toBe(model === name)
    }),
  )
})

test.each([
  [{ input: 2.5, output: 10 }, { inputTokens: 1000, outputTokens: 100 }, 0.0035],
  [{ input: 3, cachedInput: 0.3, cacheWrite: 3.75, output: 15 }, { inputTokens: 1e6, outputTokens: 1e6 }, 18],
  [{ input: 3, cachedInput: 0.3, cacheWrite: 3.75, output: 15 }, { inputTokens: 1e6, cachedInputTokens: 1e6 }, 0.3],
  [{ input: 3, cachedInput: 0.3, cacheWrite: 3.75, output: 15 }, { inputTokens: 1e6, cacheWriteTokens: 1e6 }, 3.75],
  [{ input: 3, cachedInput: 0.3, cacheWrite: 3.75, output: 15 }, { inputTokens: 1e6, cachedInputTokens: 5e5, cacheWriteTokens: 2e5 }, 1.8],
  [{ input: 3, output: 15 }, { inputTokens: 1e6, cachedInputTokens: 5e5, cacheWriteTokens: 2e5 }, 3],
  [{ input: 3, cachedInput: 0, output: 15 }, { inputTokens: 1e6, cachedInputTokens: 1e6 }, 0],
  [{ input: 0.02, output: 0 }, { inputTokens: 8 }, 1.6e-7],
] as const)('at the price %j, %j cost %d dollars', (price, used, usd) => {
  expect(usdOf(price, tokens(used))).toBeCloseTo(usd, 12)
})

test('cached tokens beyond the input are not priced', () => {
  const price = { input: 3, cachedInput: 1, cacheWrite: 2, output: 0 }
  expect(usdOf(price, tokens({ inputTokens: 1e6, cachedInputTokens: 5e6 }))).toBe(1)
  expect(usdOf(price, tokens({ inputTokens: 1e6, cacheWriteTokens: 5e6 }))).toBe(2)
  expect(usdOf(price, tokens({ inputTokens: 1e6, cachedInputTokens: 1e6, cacheWriteTokens: 1e6 }))).toBe(1)
})

test('a call costs between all its tokens at the lowest of its prices and all at the highest', () => {
  const amount = fc.nat(1e9)
  const usd = fc.nat(MAX_PRICE * 100).map((cents) => cents / 100)
  const price = fc.record({ input: usd, output: usd, cachedInput: fc.option(usd, { nil: undefined }), cacheWrite: fc.option(usd, { nil: undefined }) })
  const used = fc.record({ inputTokens: amount, cachedInputTokens: amount, cacheWriteTokens: amount, outputTokens: amount })
  fc.assert(
    fc.property(price, used, (one, many) => {
      const all = (many.inputTokens + many.outputTokens) / 1e6
      const each = [one.input, one.output, one.cachedInput ?? one.input, one.cacheWrite ?? one.input]
      const cost = usdOf(one, many)
      expect(cost).toBeGreaterThanOrEqual(all * Math.min(...each) * (1 - 1e-9))
      expect(cost).toBeLessThanOrEqual(all * Math.max(...each) * (1 + 1e-9))
    }),
  )
})

test('the bounds of a price are valid, and the order of a table is kept', () => {
  const table = { 'z*': { input: 0, output: MAX_PRICE }, 'a*': { input: MAX_PRICE, output: 0 }, [`${'m'.repeat(256)}`]: flat(0) }
  expect(Object.entries(priceTableSchema.parse(table))).toEqual(Object.entries(table))
})

test('every fault of a price table is named with its line', () => {
  const text = 'rules: []\nprices:\n  gpt-4o:\n    input: -1\n    output: much\n  claude: {}\n'
  expect(() => parseRules(text, 'p.yaml')).toThrow(
    /p\.yaml:4: prices\.gpt-4o\.input must .*\(got -1\)\np\.yaml:5: prices\.gpt-4o\.output must .*\(got "much"\)\np\.yaml:6: prices\.claude\.input must .*\n.*claude\.output/,
  )
})

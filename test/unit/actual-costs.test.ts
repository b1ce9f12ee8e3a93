import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Call } from '../../src/model/call.js'
import { COST_UNITS, type Cost } from '../../src/model/cost.js'
import { estimateCosts } from '../../src/pricing/estimate.js'
import { compilePrices } from '../../src/pricing/prices.js'
import type { CallUsage } from '../../src/pricing/usage.js'
import { actualCosts } from '../../src/pricing/usage.js'

const PRICES = compilePrices({ cached: { input: 8, cachedInput: 1, cacheWrite: 10, output: 40 } })
const callOf = (model: string | undefined): Call => ({ agent: 'a', model })
const CALL = callOf('cached')

test('a call without a usage has no actual costs', () => {
  for (const costs of [actualCosts(undefined, CALL, PRICES), actualCosts({}, CALL, PRICES)]) {
    expect(COST_UNITS.map((unit) => costs[unit])).toEqual(COST_UNITS.map(() => undefined))
  }
})

test.each<[CallUsage, Cost]>([
  [{ tokens: 50 }, { tokens: 50 }],
  [{ inputTokens: 30 }, { tokens: 30, inputTokens: 30, uncachedInputTokens: 30 }],
  [{ outputTokens: 30 }, { tokens: 30, outputTokens: 30 }],
  [
    { inputTokens: 30, outputTokens: 20 },
    { tokens: 50, inputTokens: 30, uncachedInputTokens: 30, outputTokens: 20, usd: 1040 / 1e6 },
  ],
  [
    { tokens: 50, inputTokens: 30 },
    { tokens: 50, inputTokens: 30, uncachedInputTokens: 30, outputTokens: 20, usd: 1040 / 1e6 },
  ],
  [
    { tokens: 50, outputTokens: 20 },
    { tokens: 50, inputTokens: 30, uncachedInputTokens: 30, outputTokens: 20, usd: 1040 / 1e6 },
  ],
  [
    { tokens: 10, outputTokens: 20 },
    { tokens: 10, inputTokens: 0, uncachedInputTokens: 0, outputTokens: 20, usd: 800 / 1e6 },
  ],
  [
    { inputTokens: 100, cachedInputTokens: 50, cacheWriteTokens: 30, outputTokens: 10 },
    { tokens: 110, inputTokens: 100, uncachedInputTokens: 50, outputTokens: 10, usd: (20 * 8 + 50 + 300 + 400) / 1e6 },
  ],
  [
    { inputTokens: 30, outputTokens: 20, usd: 7 },
    { tokens: 50, inputTokens: 30, uncachedInputTokens: 30, outputTokens: 20, usd: 7 },
  ],
  [{ usd: 7 }, { usd: 7 }],
  [{ uncachedInputTokens: 7 }, { uncachedInputTokens: 7 }],
  [
    { inputTokens: 30, cachedInputTokens: 40 },
    { tokens: 30, inputTokens: 30, uncachedInputTokens: 0 },
  ],
  [
    { requests: 2, points: 0 },
    { requests: 2, points: 0 },
  ],
  [
    { tokens: Number.NaN, inputTokens: -1, outputTokens: 5, usd: 1e13, points: -1, requests: Number.POSITIVE_INFINITY },
    { tokens: 5, outputTokens: 5 },
  ],
])('a usage of %j has cost %j', (usage, expected) => {
  expect(actualCosts(usage, CALL, PRICES)).toEqual(expected)
})

test('without a price of the model a usage has no actual dollars', () => {
  for (const model of ['unknown', undefined]) {
    expect(actualCosts({ inputTokens: 3, outputTokens: 4 }, callOf(model), compilePrices({}))).toMatchObject({
      tokens: 7,
      inputTokens: 3,
      outputTokens: 4,
      usd: undefined,
    })
  }
})

test('a call whose usage is what was estimated has cost what was estimated', async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(1e6), fc.nat(1e6), async (inputTokens, outputTokens) => {
      const call = { ...CALL, cost: { inputTokens, outputTokens } }
      const { tokens, usd } = await estimateCosts(call, new Set(COST_UNITS), PRICES, undefined)
      expect(actualCosts({ inputTokens, outputTokens }, call, PRICES)).toMatchObject({ tokens, inputTokens, outputTokens, usd })
    }),
  )
})

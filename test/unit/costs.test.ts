import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Call, MAX_AMOUNT } from '../../src/model/call.js'
import { COST_UNITS, type Cost, type Costs, type CostUnit } from '../../src/model/cost.js'
import { DEFAULTS } from '../../src/model/defaults.js'
import { CallInvalid } from '../../src/model/errors.js'
import type { Estimate } from '../../src/pricing/estimate.js'
import { estimateCosts } from '../../src/pricing/estimate.js'
import { compilePrices } from '../../src/pricing/prices.js'
import { actualCosts } from '../../src/pricing/usage.js'

const PRICES = compilePrices({ small: { input: 1, output: 4 } })
const ALL = new Set(COST_UNITS)
/** 7 tokens of input, and up to 100 of output. */
const PAYLOAD = { messages: [{ role: 'user', content: 'hello' }], max_tokens: 100 }

const callOf = (cost: Cost | undefined, rest: Partial<Call> = {}): Call => ({ agent: 'a', model: 'small', payload: PAYLOAD, ...rest, cost })
const units = (...names: CostUnit[]) => new Set(names)

function atOnce(call: Call, needed: ReadonlySet<CostUnit>, estimate?: Estimate, prices = PRICES): Costs {
  const costs = estimateCosts(call, needed, prices, estimate)
  if (costs instanceof Promise) throw new Error('not at once')
  return costs
}

test('a call of which no unit is counted costs a request and a point', () => {
  expect(atOnce(callOf(undefined), units())).toEqual({ requests: 1, tokens: 0, inputTokens: 0, outputTokens: 0, usd: 0, points: 1, uncachedInputTokens: 0 })
  expect(atOnce({ agent: 'a' }, units('requests', 'points'))).toEqual({
    requests: 1,
    tokens: 0,
    inputTokens: 0,
    outputTokens: 0,
    usd: 0,
    points: 1,
    uncachedInputTokens: 0,
  })
})

test('declared costs are taken as they are, counted or not', () => {
  const cost = { requests: 0, tokens: 10, inputTokens: 20, outputTokens: 30, usd: 0.25, points: 0, uncachedInputTokens: 15 }
  expect(atOnce(callOf(cost), units())).toEqual(cost)
  expect(atOnce(callOf(cost), ALL)).toEqual(cost)
  expect(atOnce(callOf(cost, { model: 'unknown' }), ALL, () => 1)).toEqual(cost)
})

test.each<[Cost, Partial<Costs>]>([
  [
    { inputTokens: 30, outputTokens: 12 },
    { tokens: 42, inputTokens: 30, outputTokens: 12 },
  ],
  [{ tokens: 500 }, { tokens: 500, inputTokens: 400, outputTokens: 100 }],
  [{ tokens: 60 }, { tokens: 60, inputTokens: 0, outputTokens: 60 }],
  [{ tokens: 0 }, { tokens: 0, inputTokens: 0, outputTokens: 0 }],
  [
    { tokens: 50, inputTokens: 30 },
    { tokens: 50, inputTokens: 30, outputTokens: 20 },
  ],
  [
    { tokens: 50, outputTokens: 30 },
    { tokens: 50, inputTokens: 20, outputTokens: 30 },
  ],
  [
    { tokens: 50, inputTokens: 80 },
    { tokens: 50, inputTokens: 80, outputTokens: 0 },
  ],
  [
    { tokens: 50, outputTokens: 80 },
    { tokens: 50, inputTokens: 0, outputTokens: 80 },
  ],
])('from a declared cost of %j the others follow without the tokenizer: %j', (cost, expected) => {
  const costs = atOnce(callOf(cost), ALL)
  expect(costs).toMatchObject(expected)
  expect(costs.usd).toBeCloseTo((costs.inputTokens + costs.outputTokens * 4) / 1e6, 15)
})

test('where the payload has no max_tokens, output is the default at most', () => {
  expect(atOnce(callOf({ tokens: 5000 }, { payload: null }), ALL)).toMatchObject({
    inputTokens: 5000 - DEFAULTS.outputTokens,
    outputTokens: DEFAULTS.outputTokens,
  })
  expect(atOnce(callOf({ tokens: 5000 }, { payload: { max_completion_tokens: 10, max_tokens: 20 } }), ALL).outputTokens).toBe(20)
  expect(atOnce(callOf({ tokens: 5000 }, { payload: { max_tokens: 1e300 } }), ALL)).toMatchObject({ inputTokens: 0, outputTokens: 5000 })
})

test.each<[Cost | undefined, Partial<Costs>]>([
  [undefined, { tokens: 107, inputTokens: 7, outputTokens: 100 }],
  [{ requests: 3 }, { requests: 3, tokens: 107, inputTokens: 7, outputTokens: 100 }],
  [{ inputTokens: 50 }, { tokens: 150, inputTokens: 50, outputTokens: 100 }],
  [{ outputTokens: 50 }, { tokens: 57, inputTokens: 7, outputTokens: 50 }],
])('the units that a cost of %j does not declare are estimated: %j', async (cost, expected) => {
  const costs = await estimateCosts(callOf(cost), ALL, PRICES, undefined)
  expect(costs).toMatchObject(expected)
  expect(costs.usd).toBeCloseTo((costs.inputTokens + costs.outputTokens * 4) / 1e6, 15)
})

test('the tokenizer runs only where input is counted, or its sum or price, and is not given', () => {
  for (const unit of ['tokens', 'inputTokens', 'usd'] as const) expect(estimateCosts(callOf(undefined), units(unit), PRICES, undefined)).toBeInstanceOf(Promise)
  for (const unit of ['requests', 'outputTokens', 'points'] as const) atOnce(callOf(undefined), units(unit))
  expect(atOnce(callOf(undefined), units('outputTokens')).outputTokens).toBe(100)
  expect(atOnce(callOf({ inputTokens: 5 }), units('inputTokens', 'tokens', 'usd'))).toMatchObject({
    inputTokens: 5,
    tokens: 105,
    outputTokens: 0,
    usd: 405 / 1e6,
  })
  atOnce(callOf({ usd: 1 }), units('usd'))
})

test('the order of the fields is the same, whatever is given and needed', async () => {
  fc.assert(
    fc.property(fc.subarray([...COST_UNITS]), fc.subarray([...COST_UNITS]), (given, needed) => {
      const cost = Object.fromEntries(given.map((unit) => [unit, 5])) as Cost
      const costs = estimateCosts(callOf(cost), new Set(needed), PRICES, undefined)
      if (!(costs instanceof Promise)) expect(Object.keys(costs)).toEqual(COST_UNITS)
    }),
  )
  expect(Object.keys(await estimateCosts(callOf(undefined), ALL, PRICES, async () => 5))).toEqual(COST_UNITS)
  expect(Object.keys(actualCosts(undefined, callOf(undefined), PRICES))).toEqual(COST_UNITS)
  expect(Object.keys(actualCosts({ usd: 5 }, callOf(undefined), PRICES))).toEqual(COST_UNITS)
})

test('a unit that is neither counted nor given is 0, and any other is the same whatever else is counted', async () => {
  const amount = fc.option(fc.nat(1000), { nil: undefined })
  const cost = fc.record({
    requests: amount,
    tokens: amount,
    inputTokens: amount,
    outputTokens: amount,
    usd: amount,
    points: amount,
    uncachedInputTokens: amount,
  })
  await fc.assert(
    fc.asyncProperty(cost, fc.subarray([...COST_UNITS]), async (given, needed) => {
      const every = await estimateCosts(callOf(given), ALL, PRICES, undefined)
      const some = await estimateCosts(callOf(given), new Set(needed), PRICES, undefined)
      for (const unit of COST_UNITS) {
        const counted = needed.includes(unit) || given[unit] !== undefined
        const least = unit === 'requests' || unit === 'points' ? 1 : 0
        expect(some[unit], unit).toBe(counted ? every[unit] : least)
      }
    }),
  )
})

test('tokens are input and output together, unless a call declares parts that exceed them', async () => {
  const amount = fc.option(fc.double({ min: 0, max: 1e9, noNaN: true }), { nil: undefined })
  const cost = fc.record({ tokens: amount, inputTokens: amount, outputTokens: amount })
  await fc.assert(
    fc.asyncProperty(cost, fc.option(fc.nat(2000), { nil: undefined }), async (given, max_tokens) => {
      const costs = await estimateCosts(callOf(given, { payload: { ...PAYLOAD, max_tokens } }), ALL, PRICES, undefined)
      const sum = costs.inputTokens + costs.outputTokens
      if (given.tokens === undefined || (given.inputTokens === undefined && given.outputTokens === undefined)) expect(sum).toBeCloseTo(costs.tokens, 4)
      else if (given.inputTokens === undefined || given.outputTokens === undefined) expect(sum).toBeGreaterThanOrEqual(costs.tokens * (1 - 1e-12))
      for (const unit of ['tokens', 'inputTokens', 'outputTokens'] as const) {
        expect(costs[unit]).toBeGreaterThanOrEqual(0)
        if (given[unit] !== undefined) expect(costs[unit]).toBe(given[unit])
      }
      expect(costs.usd).toBeCloseTo((costs.inputTokens + 4 * costs.outputTokens) / 1e6, 6)
    }),
  )
})

test('no cost exceeds the largest amount', () => {
  const dear = compilePrices({ '*': { input: 1e6, output: 1e6 } })
  const costs = atOnce(callOf({ inputTokens: MAX_AMOUNT, outputTokens: MAX_AMOUNT }), ALL, undefined, dear)
  expect(costs).toMatchObject({ tokens: MAX_AMOUNT, inputTokens: MAX_AMOUNT, outputTokens: MAX_AMOUNT, usd: MAX_AMOUNT })
  const actual = actualCosts({ inputTokens: MAX_AMOUNT, outputTokens: MAX_AMOUNT }, callOf(undefined), dear)
  expect(actual).toMatchObject({ tokens: MAX_AMOUNT, usd: MAX_AMOUNT })
})

test('an output beyond the largest amount is refused with its bound', async () => {
  const call = callOf(undefined, { payload: { ...PAYLOAD, max_tokens: 1e300 } })
  expect(() => atOnce(call, units('outputTokens'))).toThrow('cost.outputTokens: the estimate must be a number from 0 to 1000000000000 (got 1e+300)')
  await expect(estimateCosts(call, units('tokens'), PRICES, undefined)).rejects.toThrow(/^cost\.tokens: the estimate must be a number from 0 to /)
})

test.each<[string | undefined, string]>([
  ['big', 'cost.usd: no price for model "big"; add it under prices, give a price for "*", or say cost.usd'],
  ['a "b"', 'cost.usd: no price for model "a \\"b\\""; add it under prices, give a price for "*", or say cost.usd'],
  [undefined, 'cost.usd: no price for a call without a model; give a price for "*" under prices, or say cost.usd'],
])('where dollars are counted, a call with the model %j is refused that has no price', (model, message) => {
  for (const cost of [undefined, { tokens: 5 }, { inputTokens: 1, outputTokens: 1 }]) {
    expect(() => atOnce(callOf(cost, { model }), ALL)).toThrow(new CallInvalid(message))
  }
  expect(atOnce(callOf({ tokens: 5, usd: 0 }, { model }), ALL).usd).toBe(0)
  expect(atOnce(callOf({ tokens: 5 }, { model }), units('tokens')).usd).toBe(0)
  const dear = compilePrices({ '*': { input: 1e6, output: 1e6 } })
  expect(atOnce(callOf({ tokens: 5 }, { model }), ALL, undefined, dear).usd).toBe(5)
})

test("declared costs go before the user's estimate, and that before prices and the tokenizer", async () => {
  const mine: Estimate = () => ({ requests: 2, tokens: 30, inputTokens: 20, outputTokens: 10, usd: 9, points: 8, uncachedInputTokens: 15 })
  expect(atOnce(callOf(undefined), ALL, mine)).toEqual(mine(callOf(undefined)))
  expect(atOnce(callOf({ requests: 5, usd: 1, points: 0 }), ALL, mine)).toEqual({
    requests: 5,
    tokens: 30,
    inputTokens: 20,
    outputTokens: 10,
    usd: 1,
    points: 0,
    uncachedInputTokens: 15,
  })
  expect(await estimateCosts(callOf(undefined), ALL, PRICES, async () => ({ points: 5 }))).toMatchObject({ tokens: 107, inputTokens: 7, points: 5 })
  expect(atOnce(callOf({ tokens: 5 }, { model: 'unknown' }), units('usd'), mine).usd).toBe(9)
  await expect(Promise.resolve().then(() => estimateCosts(callOf(undefined, { model: 'unknown' }), ALL, PRICES, () => 5))).rejects.toThrow(
    /^cost\.usd: no price/,
  )
})

test.each<[Cost, number | Cost, Partial<Costs>]>([
  [{}, 500, { tokens: 500, inputTokens: 400, outputTokens: 100 }],
  [{}, { tokens: 110, inputTokens: 80, outputTokens: 20 }, { tokens: 110, inputTokens: 80, outputTokens: 20 }],
  [{}, { inputTokens: 80, outputTokens: 20 }, { tokens: 100, inputTokens: 80, outputTokens: 20 }],
  [{}, { tokens: 110, inputTokens: 80 }, { tokens: 110, inputTokens: 80, outputTokens: 30 }],
  [{}, { inputTokens: 80 }, { tokens: 180, inputTokens: 80, outputTokens: 100 }],
  [{ inputTokens: 50 }, 60, { tokens: 60, inputTokens: 50, outputTokens: 10 }],
  [{ inputTokens: 50 }, 30, { tokens: 50, inputTokens: 50, outputTokens: 0 }],
  [{ inputTokens: 50 }, { tokens: 110, inputTokens: 80, outputTokens: 30 }, { tokens: 80, inputTokens: 50, outputTokens: 30 }],
  [{ outputTokens: 50 }, 60, { tokens: 60, inputTokens: 10, outputTokens: 50 }],
  [{ outputTokens: 50 }, { inputTokens: 80, outputTokens: 30 }, { tokens: 130, inputTokens: 80, outputTokens: 50 }],
  [{ tokens: 200 }, { tokens: 110, inputTokens: 80, outputTokens: 30, points: 3 }, { tokens: 200, inputTokens: 100, outputTokens: 100, points: 3 }],
  [
    { inputTokens: 5, outputTokens: 6 },
    { tokens: 110, points: 3 },
    { tokens: 11, inputTokens: 5, outputTokens: 6, points: 3 },
  ],
])("a cost of %j and a user's estimate of %j are %j together", (cost, answer, expected) => {
  expect(atOnce(callOf(cost), ALL, () => answer)).toMatchObject(expected)
})

test("the user's estimate runs only where something is counted that the call leaves open, requests apart", () => {
  /** The requests of the estimate where it ran once, else how often it ran. */
  const requestsOf = (cost: Cost, ...needed: CostUnit[]) => {
    let times = 0
    const costs = atOnce(callOf(cost), units(...needed), () => {
      times++
      return { requests: 2, tokens: 5, usd: 1, points: 1 }
    })
    return times === 1 ? costs.requests : times
  }
  expect(requestsOf({})).toBe(0)
  expect(requestsOf({}, 'requests')).toBe(0)
  expect(requestsOf({ tokens: 5 }, 'requests', 'tokens', 'inputTokens', 'outputTokens', 'usd')).toBe(0)
  expect(requestsOf({ points: 5 }, 'requests', 'points')).toBe(0)
  expect(requestsOf({ usd: 5 }, 'usd')).toBe(0)
  for (const unit of ['tokens', 'inputTokens', 'outputTokens', 'usd', 'points'] as const) expect(requestsOf({}, unit), unit).toBe(2)
})

test("a user's estimate may answer later, and an invalid amount refuses the call", async () => {
  const call = callOf(undefined)
  expect(estimateCosts(call, ALL, PRICES, async () => 500)).toBeInstanceOf(Promise)
  expect(await estimateCosts(call, ALL, PRICES, async () => 500)).toMatchObject({ tokens: 500, inputTokens: 400 })
  expect(() => atOnce(call, ALL, () => -1)).toThrow(/^cost\.tokens: the estimate must be /)
  await expect(estimateCosts(call, ALL, PRICES, async () => Number.NaN)).rejects.toThrow(/^cost\.tokens: the estimate must be /)
})

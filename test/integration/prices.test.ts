import { describe, expect, test } from 'vitest'
import type { PriceTable, RuleSpec } from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'
import { codeOf, newPlace, PLACES, usedBy } from '../support/place.js'
import { until } from '../support/until.js'

const RULES: RuleSpec[] = [{ name: 'money', scope: 'agent', limits: [{ name: 'usd', usd: 10, per: 'day', algorithm: 'fixed_window' }] }]
const PRICES: PriceTable = { large: { input: 10, cachedInput: 1, output: 40 } }
const CALL = { agent: 'a', model: 'large', cost: { inputTokens: 100_000, outputTokens: 50_000 } }

describe.each(PLACES)('in %s', (place) => {
  test('a limit of dollars is charged the estimate of a call, and then its actual cost', async () => {
    const tollgate = await newPlace(place).open({ rules: RULES, prices: PRICES })
    const grant = await tollgate.gate.admit(CALL)
    expect(await usedBy(tollgate, CALL)).toBeCloseTo(1 + 2, 9)
    await grant.settle({ inputTokens: 100_000, cachedInputTokens: 90_000, outputTokens: 10_000 })
    expect(await usedBy(tollgate, CALL)).toBeCloseTo(0.1 + 0.09 + 0.4, 9)
  })

  test('a call of a model without a price is refused with a hint, and nothing is charged', async () => {
    const tollgate = await newPlace(place).open({ rules: RULES, prices: PRICES })
    const unknown = { agent: 'a', model: 'small', cost: { tokens: 10 } }
    const message = 'cost.usd: no price for model "small"; add it under prices, give a price for "*", or say cost.usd'
    for (const request of [tollgate.gate.peek(unknown), tollgate.gate.admit(unknown), tollgate.gate.acquire(unknown), tollgate.gate.record(unknown)])
      await expect(request).rejects.toThrow(expect.objectContaining({ code: 'CALL_INVALID', message }))
    expect(await usedBy(tollgate, CALL)).toBe(0)
    expect((await tollgate.gate.admit({ ...unknown, cost: { usd: 0.5 } })).allowed).toBe(true)
    expect(await usedBy(tollgate, CALL)).toBe(0.5)
  })

  test('a price for "*" is that of every other model', async () => {
    const tollgate = await newPlace(place).open({ rules: RULES, prices: { ...PRICES, '*': { input: 1, output: 1 } } })
    await tollgate.gate.admit({ ...CALL, model: 'small' })
    expect(await usedBy(tollgate, CALL)).toBeCloseTo(0.15, 9)
  })

  test('prices without rules, or beside a rules file, are refused', async () => {
    const shared = newPlace(place)
    expect(await codeOf(shared.open({ prices: PRICES }))).toBe('CONFIG_INVALID')
    expect(await codeOf(shared.open({ rules: 'test/fixtures/rules/good/prices.yaml', prices: PRICES }))).toBe('CONFIG_INVALID')
    expect(await codeOf(shared.open({ rules: RULES, prices: { large: { input: -1, output: 1 } } }))).toBe('RULES_INVALID')
  })
})

test('a worker that opened without rules gets rules and prices from Redis, and their changes', async () => {
  const namespace = newNamespace()
  const app = await namespace.open({ rules: RULES, prices: PRICES })
  const elsewhere = await namespace.open()
  elsewhere.worker(async () => ({ usage: { inputTokens: 200_000, outputTokens: 10_000 } }))
  await (await app.enqueue(CALL)).result()
  await until('it is settled', async () => (await app.stats.ledger()).settled === 1)
  expect(await usedBy(app, CALL)).toBeCloseTo(2 + 0.4, 9)

  await app.rules.apply(RULES, { large: { input: 1, output: 4 } })
  // At the old price this call costs more than is left, at the new one less.
  const dear = { agent: 'a', model: 'large', cost: { inputTokens: 1_000_000, outputTokens: 0 } }
  await until('the worker knows the new prices', async () => (await elsewhere.gate.peek(dear)).allowed)
  await (await app.enqueue(CALL)).result()
  await until('it is settled', async () => (await app.stats.ledger()).settled === 2)
  expect(await usedBy(app, CALL)).toBeCloseTo(2.4 + 0.2 + 0.04, 9)
})

test('enqueue and enqueueMany refuse a call of a model without a price', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES, prices: PRICES })
  tollgate.worker(async () => 'never')
  expect(await codeOf(tollgate.enqueue({ agent: 'a', model: 'small' }))).toBe('CALL_INVALID')
  const [ticket] = await tollgate.enqueueMany([{ agent: 'a', model: 'small' }])
  expect(ticket?.error?.code).toBe('CALL_INVALID')
})

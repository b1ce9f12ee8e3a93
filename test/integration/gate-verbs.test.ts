import { describe, expect, test } from 'vitest'
import { GivenClock, type LimitSpec, type RuleSpec } from '../../src/index.js'
import { codeOf, newPlace, PLACES, usedBy } from '../support/place.js'
import { T0 } from '../support/script-client.js'

const HOUR = 3_600_000
const A = { agent: 'a', user: 'u' }

function tokens(limit: number, more: LimitSpec = { algorithm: 'fixed_window' }): RuleSpec[] {
  return [{ name: 'tokens', scope: 'agent', limits: [{ name: 'tokens', tokens: limit, per: 'day', ...more }] }]
}

describe.each(PLACES)('in %s', (place) => {
  test('a call is settled by its id, by another Tollgate than the one that admitted it, once', async () => {
    const shared = newPlace(place)
    const [one, other] = [await shared.open({ rules: tokens(1000) }), await shared.open({ rules: tokens(1000) })]
    expect((await one.gate.admit({ ...A, id: 'mine', cost: { tokens: 100 } })).allowed).toBe(true)
    expect(await other.gate.settle({ ...A, id: 'mine' }, { inputTokens: 20, outputTokens: 10 })).toBe(true)
    expect(await usedBy(one, A)).toBe(30)
    expect(await other.gate.settle({ ...A, id: 'mine' }, { tokens: 500 })).toBe(false)
    expect(await one.gate.settle({ ...A, id: 'mine' }, { tokens: 500 })).toBe(false)
    expect(await usedBy(one, A)).toBe(30)
  })

  test('a call that is settled by its id without a usage costs its estimate', async () => {
    const tollgate = await newPlace(place).open({ rules: tokens(1000) })
    await tollgate.gate.admit({ ...A, id: 'mine', cost: { tokens: 100 } })
    expect(await tollgate.gate.settle({ ...A, id: 'mine' })).toBe(true)
    expect(await usedBy(tollgate, A)).toBe(100)
    expect(await tollgate.stats.ledger()).toMatchObject({ open: 0, settled: 1, released: 0, expired: 0 })
  })

  test('a call is released by its id, by another Tollgate, and leaves no charge', async () => {
    const shared = newPlace(place)
    const rules: RuleSpec[] = [...tokens(1000), { name: 'slot', scope: 'user', limits: [{ concurrency: 1 }] }]
    const [one, other] = [await shared.open({ rules }), await shared.open({ rules })]
    await one.gate.admit({ ...A, id: 'mine', cost: { tokens: 100 } })
    expect(await usedBy(other, A, 'concurrency')).toBe(1)
    expect(await other.gate.release({ ...A, id: 'mine' })).toBe(true)
    expect(await other.gate.release({ ...A, id: 'mine' })).toBe(false)
    expect([await usedBy(one, A, 'tokens'), await usedBy(one, A, 'concurrency')]).toEqual([0, 0])
  })

  test('only a call with an id can be settled or released by it, and only one that is open', async () => {
    const tollgate = await newPlace(place).open({ rules: tokens(1000) })
    await expect(tollgate.gate.settle(A)).rejects.toThrow('id: is needed to know which call ended (got undefined)')
    await expect(tollgate.gate.release(A)).rejects.toThrow('id: is needed to know which call ended (got undefined)')
    expect(await tollgate.gate.settle({ ...A, id: 'unknown' }, { tokens: 5 })).toBe(false)
    expect(await tollgate.gate.release({ ...A, id: 'unknown' })).toBe(false)
    expect(await usedBy(tollgate, A)).toBe(0)
  })

  test('a call that is admitted twice under one id is charged once', async () => {
    const tollgate = await newPlace(place).open({ rules: tokens(1000) })
    for (let i = 0; i < 3; i++) expect((await tollgate.gate.admit({ ...A, id: 'mine', cost: { tokens: 100 } })).allowed).toBe(true)
    expect(await usedBy(tollgate, A)).toBe(100)
  })

  test('a record is charged whether there is room or not, and the part above the limit is debt', async () => {
    const clock = new GivenClock(T0)
    const tollgate = await newPlace(place, clock).open({ rules: tokens(240, { algorithm: 'token_bucket' }) })
    const recorded = await tollgate.gate.record({ ...A, cost: { tokens: 300 } })
    expect(recorded).toMatchObject({ allowed: true, remaining: 0, retryAfterMs: 0 })
    expect(recorded.usage[0]).toMatchObject({ used: 300, capacity: 240, remaining: 0 })
    const refused = await tollgate.gate.admit({ ...A, cost: { tokens: 10 } })
    expect(refused.allowed).toBe(false)
    // 60 of debt and 10 of room are refilled at 10 an hour.
    expect(Math.round((refused.retryAfterMs ?? 0) / HOUR)).toBe(7)
    clock.advance(6 * HOUR)
    expect((await tollgate.gate.admit({ ...A, cost: { tokens: 10 } })).allowed).toBe(false)
    clock.advance(1 * HOUR + 1)
    expect((await tollgate.gate.admit({ ...A, cost: { tokens: 10 } })).allowed).toBe(true)
  })

  test('a record with an id is charged once and can be settled; one without is charged each time', async () => {
    const tollgate = await newPlace(place).open({ rules: tokens(1000) })
    for (let i = 0; i < 3; i++) await tollgate.gate.record({ ...A, id: 'mine', cost: { tokens: 100 } })
    expect(await usedBy(tollgate, A)).toBe(100)
    expect(await tollgate.gate.settle({ ...A, id: 'mine' }, { tokens: 60 })).toBe(true)
    expect(await usedBy(tollgate, A)).toBe(60)
    for (let i = 0; i < 2; i++) await tollgate.gate.record({ ...A, cost: { tokens: 100 } })
    expect(await usedBy(tollgate, A)).toBe(260)
    expect((await tollgate.stats.ledger()).open).toBe(0)
  })

  test('a record takes no slot', async () => {
    const tollgate = await newPlace(place).open({ rules: [{ name: 'slot', scope: 'user', limits: [{ concurrency: 1 }] }] })
    await tollgate.gate.record(A)
    expect(await usedBy(tollgate, A)).toBe(0)
  })

  test.each([
    ['a token bucket', {}],
    ['a fixed window', { algorithm: 'fixed_window' }],
    ['a sliding window', { algorithm: 'sliding_window' }],
  ] as const)('a grant that is settled in parts is charged the most that was said, then what it cost: %s', async (_name, limit) => {
    const tollgate = await newPlace(place, new GivenClock(T0)).open({ rules: tokens(1000, limit) })
    const grant = await tollgate.gate.admit({ ...A, cost: { tokens: 100 } })
    const used: (number | undefined)[] = []
    for (const tokens of [50, 150, 150, 200, 120]) {
      expect(await grant.settlePart({ tokens })).toBe(true)
      used.push(await usedBy(tollgate, A))
    }
    expect(used).toEqual([100, 150, 150, 200, 200])
    expect(await grant.settle({ tokens: 130 })).toBe(true)
    expect(await usedBy(tollgate, A)).toBe(130)
    expect(await grant.settlePart({ tokens: 500 })).toBe(false)
    expect(await grant.settle({ tokens: 500 })).toBe(false)
    expect(await grant.release()).toBe(false)
    expect(await usedBy(tollgate, A)).toBe(130)
  })

  test('a grant that was settled in parts and ends without a usage costs its last part', async () => {
    const tollgate = await newPlace(place).open({ rules: tokens(1000) })
    const grant = await tollgate.gate.admit({ ...A, cost: { tokens: 100 } })
    await grant.settlePart({ inputTokens: 100, outputTokens: 80 })
    await grant.settle()
    expect(await usedBy(tollgate, A)).toBe(180)
  })

  test('a grant that was settled in parts gives back everything when it is released', async () => {
    const tollgate = await newPlace(place).open({ rules: tokens(1000) })
    const grant = await tollgate.gate.admit({ ...A, cost: { tokens: 100 } })
    await grant.settlePart({ tokens: 300 })
    expect(await grant.release()).toBe(true)
    expect(await usedBy(tollgate, A)).toBe(0)
  })

  test('a refused call holds nothing that could be settled or released', async () => {
    const tollgate = await newPlace(place).open({ rules: tokens(100) })
    await tollgate.gate.record({ ...A, cost: { tokens: 90 } })
    const refused = await tollgate.gate.admit({ ...A, cost: { tokens: 50 } })
    expect(refused.allowed).toBe(false)
    expect([await refused.settle({ tokens: 1 }), await refused.settlePart({ tokens: 99 }), await refused.release()]).toEqual([false, false, false])
    expect(await usedBy(tollgate, A)).toBe(90)
  })

  test('the figures of the ledger count every charge as open, settled, released or expired', async () => {
    const clock = new GivenClock(T0)
    const tollgate = await newPlace(place, clock).open({ rules: tokens(100_000) })
    expect(await tollgate.stats.ledger()).toEqual({ open: 0, settled: 0, released: 0, expired: 0, overEstimatedPercent: null })
    const grants = await Promise.all(Array.from({ length: 5 }, () => tollgate.gate.admit({ ...A, cost: { tokens: 100 } })))
    expect(await tollgate.stats.ledger()).toMatchObject({ open: 5 })
    await grants[0]?.settle({ tokens: 60 })
    await grants[1]?.settle({ tokens: 90 })
    await grants[2]?.release()
    // 200 were estimated, 150 were used.
    expect(await tollgate.stats.ledger()).toEqual({ open: 2, settled: 2, released: 1, expired: 0, overEstimatedPercent: 25 })
    clock.advance(26 * HOUR)
    expect(await tollgate.stats.ledger()).toEqual({ open: 0, settled: 2, released: 1, expired: 2, overEstimatedPercent: 25 })
  })

  test('every call of a closed Tollgate is refused with CLOSED', async () => {
    const tollgate = await newPlace(place).open({ rules: tokens(100) })
    const limiter = tollgate.limiter({ requests: 1, per: 'minute' })
    const grant = await tollgate.gate.admit({ ...A, cost: { tokens: 1 } })
    await tollgate.close()
    const refused = [
      tollgate.gate.peek(A),
      tollgate.gate.admit(A),
      tollgate.gate.tryAcquire(A),
      tollgate.gate.record(A),
      grant.settle(),
      limiter.check('k'),
      limiter.reset('k'),
      tollgate.stats.ledger(),
      tollgate.setCapacity('a', 1),
      tollgate.enqueue(A),
    ]
    expect(await Promise.all(refused.map(codeOf))).toEqual(refused.map(() => 'CLOSED'))
  })
})

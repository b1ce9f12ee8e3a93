import { describe, expect, test } from 'vitest'
import { GivenClock, type RuleSpec } from '../../src/index.js'
import { newPlace, PLACES } from '../support/place.js'
import { T0 } from '../support/script-client.js'

const MINUTE = 60_000
const CALL = { agent: 'a', user: 'u', cost: { tokens: 40 } }
const RULES: RuleSpec[] = [
  { name: 'account', scope: 'agent', limits: [{ requests: 100, per: 'minute' }, { concurrency: 10 }] },
  {
    name: 'user',
    scope: 'user',
    limits: [
      { tokens: 100, per: 'minute', algorithm: 'sliding_window' },
      { requests: 50, per: 'hour', algorithm: 'fixed_window' },
    ],
  },
]

describe.each(PLACES)('in %s', (place) => {
  test('an answer has the usage of every limit, and its short form is that of the tightest', async () => {
    const tollgate = await newPlace(place, new GivenClock(T0)).open({ rules: RULES })
    const grant = await tollgate.gate.admit(CALL)
    expect(grant).toMatchObject({ allowed: true, limitExceeded: null, remaining: 60, retryAfterMs: 0 })
    expect(
      grant.usage.map(({ rule, limit, scopeValue, unit, capacity, used, remaining }) => [rule, limit, scopeValue, unit, capacity, used, remaining]),
    ).toEqual([
      ['account', 'requests/minute', 'a', 'requests', 100, 1, 99],
      ['account', 'concurrency', 'a', 'concurrency', 10, 1, 9],
      ['user', 'tokens/minute', 'u', 'tokens', 100, 40, 60],
      ['user', 'requests/hour', 'u', 'requests', 50, 1, 49],
    ])
    // A charge counts until the whole cell that it is in, a thirty-second of a window, has left the window.
    expect(grant.resetAt?.getTime()).toBeGreaterThanOrEqual(T0 + MINUTE)
    expect(grant.resetAt?.getTime()).toBeLessThanOrEqual(T0 + MINUTE + MINUTE / 32)
  })

  test('a refusal names the limit, and a time after which the same call passes', async () => {
    const clock = new GivenClock(T0)
    const tollgate = await newPlace(place, clock).open({ rules: RULES })
    for (let i = 0; i < 2; i++) await (await tollgate.gate.admit(CALL)).settle()
    const refused = await tollgate.gate.admit(CALL)
    expect(refused).toMatchObject({ allowed: false, limitExceeded: 'user/tokens/minute', remaining: 20 })
    expect(refused.usage).toHaveLength(4)
    clock.advance((refused.retryAfterMs ?? 0) - 2)
    expect((await tollgate.gate.peek(CALL)).allowed).toBe(false)
    clock.advance(2)
    expect((await tollgate.gate.peek(CALL)).allowed).toBe(true)
  })

  test('retryAfterMs is null where a slot comes free at an unknown time, and where a call is too big', async () => {
    const tollgate = await newPlace(place).open({ rules: [{ name: 'slot', scope: 'agent', limits: [{ concurrency: 1 }, { points: 5, per: 'minute' }] }] })
    await tollgate.gate.admit(CALL)
    expect(await tollgate.gate.peek(CALL)).toMatchObject({ allowed: false, limitExceeded: 'slot/concurrency', retryAfterMs: null })
    expect(await tollgate.gate.peek({ ...CALL, cost: { points: 6 } })).toMatchObject({
      allowed: false,
      limitExceeded: 'slot/points/minute',
      retryAfterMs: null,
    })
  })

  test('a call that no limit covers is allowed, with an empty answer', async () => {
    const tollgate = await newPlace(place).open({ rules: [{ name: 'team', scope: 'team', limits: [{ requests: 1, per: 'day' }] }] })
    expect((await tollgate.gate.peek(CALL)).toJSON()).toEqual({
      allowed: true,
      limitExceeded: null,
      remaining: null,
      resetAt: null,
      retryAfterMs: 0,
      usage: [],
    })
  })

  test('an answer in JSON is complete, from gate and limiter', async () => {
    const tollgate = await newPlace(place, new GivenClock(T0)).open({ rules: RULES })
    const limiter = tollgate.limiter({ requests: 1, per: 'minute' })
    const answers = [
      await tollgate.gate.admit(CALL),
      await tollgate.gate.peek({ ...CALL, cost: { tokens: 90 } }),
      await tollgate.gate.acquire(CALL),
      await tollgate.gate.record(CALL),
      await limiter.check('k'),
      await limiter.check('k'),
      await tollgate.all([limiter]).peek('k'),
    ]
    for (const answer of answers) {
      const { allowed, limitExceeded, remaining, resetAt, retryAfterMs, usage } = answer
      const parsed = JSON.parse(JSON.stringify(answer)) as object
      expect(parsed).toEqual({ allowed, limitExceeded, remaining, resetAt: resetAt?.toISOString(), retryAfterMs, usage })
      expect(Object.keys(parsed)).toEqual(['allowed', 'limitExceeded', 'remaining', 'resetAt', 'retryAfterMs', 'usage'])
      expect(remaining).toBe([...usage].sort((one, other) => one.remaining / one.capacity - other.remaining / other.capacity)[0]?.remaining)
      for (const one of usage)
        expect(Object.keys(one)).toEqual(['rule', 'limit', 'scopeValue', 'unit', 'amount', 'windowMs', 'capacity', 'used', 'claimed', 'remaining', 'resetMs'])
    }
  })

  test('after a limit became 0 an answer has no room left and no time of retry, and JSON can hold it', async () => {
    const tollgate = await newPlace(place).open({ rules: [{ name: 'r', scope: 'agent', limits: [{ requests: 5, per: 'day' }] }] })
    await tollgate.gate.admit(CALL)
    await tollgate.rules.apply([{ name: 'r', scope: 'agent', limits: [{ requests: 0, per: 'day' }] }])
    const answer = await tollgate.gate.peek(CALL)
    expect(answer).toMatchObject({ allowed: false, remaining: 0, retryAfterMs: null })
    expect(() => JSON.stringify(answer)).not.toThrow()
  })
})

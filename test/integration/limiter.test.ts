import { describe, expect, test } from 'vitest'
import { GivenClock, type LimitSpec, RateLimitExceeded } from '../../src/index.js'
import { codeOf, newPlace, PLACES } from '../support/place.js'
import { T0 } from '../support/script-client.js'

const MINUTE = 60_000

describe.each(PLACES)('in %s', (place) => {
  test('check charges one for a key, until there is no room, and then gives the time to wait', async () => {
    const clock = new GivenClock(T0)
    const limiter = (await newPlace(place, clock).open()).limiter({ requests: 3, per: 'minute' })
    const remaining: (number | null)[] = []
    for (let i = 0; i < 3; i++) remaining.push((await limiter.check('u1')).remaining)
    expect(remaining).toEqual([2, 1, 0])
    const refused = await limiter.check('u1')
    expect(refused).toMatchObject({ allowed: false, limitExceeded: 'requests/minute', remaining: 0 })
    expect(refused.retryAfterMs).toBeGreaterThanOrEqual(20_000)
    expect(refused.retryAfterMs).toBeLessThanOrEqual(20_001)
    expect(refused.resetAt?.getTime()).toBe(T0 + MINUTE)
    expect((await limiter.check('u2')).allowed).toBe(true)
    clock.advance(refused.retryAfterMs ?? 0)
    expect((await limiter.check('u1')).allowed).toBe(true)
  })

  test('consume charges a cost in the unit of the limit, and nothing where there is no room for it', async () => {
    const limiter = (await newPlace(place, new GivenClock(T0)).open()).limiter({ tokens: 100, per: 'minute' })
    expect(await limiter.consume('u', 70.5)).toMatchObject({ allowed: true, remaining: 29.5 })
    expect(await limiter.consume('u', 30)).toMatchObject({ allowed: false, remaining: 29.5 })
    expect(await limiter.consume('u', 29.5)).toMatchObject({ allowed: true, remaining: 0 })
    expect(await limiter.consume('u', 0)).toMatchObject({ allowed: true, remaining: 0 })
    expect(await limiter.consume('u', 101)).toMatchObject({ allowed: false, retryAfterMs: null })
  })

  test('peek answers as consume would, and charges nothing', async () => {
    const limiter = (await newPlace(place, new GivenClock(T0)).open()).limiter({ points: 10, per: 'minute' })
    await limiter.consume('u', 4)
    for (let i = 0; i < 3; i++) expect(await limiter.peek('u', 6)).toMatchObject({ allowed: true, remaining: 6 })
    expect(await limiter.peek('u', 7)).toMatchObject({ allowed: false, remaining: 6 })
    expect(await limiter.consume('u', 6)).toMatchObject({ allowed: true, remaining: 0 })
  })

  test('checkOrThrow answers, or throws an error with the limit and the time to wait', async () => {
    const tollgate = await newPlace(place, new GivenClock(T0)).open()
    const limiter = tollgate.limiter({ name: 'logins', requests: 1, per: 'minute' })
    expect((await limiter.checkOrThrow('u')).allowed).toBe(true)
    const error: unknown = await limiter.checkOrThrow('u').catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(RateLimitExceeded)
    expect(error).toMatchObject({ code: 'RATE_LIMIT_EXCEEDED', status: 429, retryable: true, limit: 'logins' })
    expect((error as RateLimitExceeded).retryAfterMs).toBeGreaterThanOrEqual(MINUTE)
    expect((error as RateLimitExceeded).message).toContain('limit logins, u')
    expect(await codeOf(limiter.checkOrThrow('u', 2))).toBe('COST_TOO_BIG')
    expect(await codeOf(tollgate.limiter({ name: 'none', requests: 0, per: 'minute' }).checkOrThrow('u'))).toBe('LIMIT_CLOSED')
  })

  test('reset clears the usage of one key, and of no other', async () => {
    const limiter = (await newPlace(place).open()).limiter({ requests: 1, per: 'day', algorithm: 'sliding_log' })
    await limiter.check('u1')
    await limiter.check('u2')
    await limiter.reset('u1')
    expect((await limiter.check('u1')).allowed).toBe(true)
    expect((await limiter.check('u2')).allowed).toBe(false)
    await limiter.reset('never-seen')
  })

  test('a limiter of several limits allows a check that all of them allow, and its answer is that of the tightest', async () => {
    const clock = new GivenClock(T0)
    const limits: LimitSpec[] = [
      { requests: 2, per: 'second' },
      { requests: 3, per: 'hour', algorithm: 'sliding_window' },
    ]
    const limiter = (await newPlace(place, clock).open()).limiter(limits)
    expect(await limiter.check('u')).toMatchObject({ allowed: true, remaining: 1 })
    expect(await limiter.check('u')).toMatchObject({ allowed: true, remaining: 0 })
    expect(await limiter.check('u')).toMatchObject({ allowed: false, limitExceeded: 'requests/second' })
    clock.advance(1000)
    const third = await limiter.check('u')
    expect(third).toMatchObject({ allowed: true, remaining: 0 })
    expect(third.usage.map(({ limit, remaining }) => [limit, remaining])).toEqual([
      ['requests/second', 1],
      ['requests/hour', 0],
    ])
    expect(await limiter.check('u')).toMatchObject({ allowed: false, limitExceeded: 'requests/hour' })
  })

  test.each(['token_bucket', 'leaky_bucket', 'fixed_window', 'sliding_window', 'sliding_log'] as const)(
    'every algorithm works by key, and never admits more than its limit: %s',
    async (algorithm) => {
      const limiter = (await newPlace(place, new GivenClock(T0)).open()).limiter({ requests: 10, per: 'minute', algorithm })
      const answers = await Promise.all(Array.from({ length: 50 }, () => limiter.check('u')))
      expect(answers.filter(({ allowed }) => allowed)).toHaveLength(algorithm === 'leaky_bucket' ? 1 : 10)
      expect((await limiter.peek('u')).retryAfterMs).toBeGreaterThan(0)
    },
  )

  test('limiters of one name share their usage, others do not', async () => {
    const shared = newPlace(place)
    const [one, other] = [await shared.open(), await shared.open()]
    const limit: LimitSpec = { requests: 5, per: 'day', algorithm: 'fixed_window' }
    await one.limiter({ ...limit, name: 'shared' }).consume('u', 3)
    expect((await other.limiter({ ...limit, name: 'shared' }).peek('u')).remaining).toBe(2)
    expect((await other.limiter({ ...limit, name: 'its-own' }).peek('u')).remaining).toBe(5)
    await one.limiter(limit).consume('u', 1)
    expect((await other.limiter(limit).peek('u')).remaining).toBe(4)
  })

  test('all allows a check that every one of its limiters allows, under one key', async () => {
    const tollgate = await newPlace(place).open()
    const [few, many] = [tollgate.limiter({ requests: 2, per: 'day' }), tollgate.limiter({ tokens: 5, per: 'day' })]
    const both = tollgate.all([few, many])
    expect(await both.check('u')).toMatchObject({ allowed: true, limitExceeded: null })
    expect(await both.check('u')).toMatchObject({ allowed: true })
    expect(await both.check('u')).toMatchObject({ allowed: false, limitExceeded: 'requests/day' })
    expect((await many.peek('u')).usage[0]?.used).toBeCloseTo(2, 3)
    await both.reset('u')
    expect((await few.peek('u')).usage[0]?.used).toBe(0)
  })

  test('all with a key for each limiter charges none where one refuses, however many checks run at once', async () => {
    const tollgate = await newPlace(place).open()
    const perUser = tollgate.limiter({ name: 'user', requests: 7, per: 'day', algorithm: 'fixed_window' })
    const perOrg = tollgate.limiter({ name: 'org', requests: 20, per: 'day', algorithm: 'fixed_window' })
    const both = tollgate.all([perUser, perOrg])
    const answers = await Promise.all(Array.from({ length: 60 }, (_, index) => both.consume([`user ${index % 6}`, 'acme'])))
    expect(answers.filter(({ allowed }) => allowed)).toHaveLength(20)
    const usedByUsers = await Promise.all(Array.from({ length: 6 }, async (_, index) => (await perUser.peek(`user ${index}`)).usage[0]?.used ?? 0))
    expect(usedByUsers.reduce((sum, used) => sum + used, 0)).toBe(20)
    expect((await perOrg.peek('acme')).usage[0]?.used).toBe(20)
  })

  test('all refuses to count a call twice where limiters share a name and a key', async () => {
    const tollgate = await newPlace(place).open()
    const limiter = tollgate.limiter({ requests: 1, per: 'day' })
    const both = tollgate.all([limiter, tollgate.limiter({ requests: 1, per: 'day' })])
    await expect(both.check('u')).rejects.toThrow(/^key: two of the limiters are called requests:day:1, and would count the call twice; .*\(got "u"\)$/)
    expect((await both.check(['u', 'v'])).allowed).toBe(true)
    await expect(both.check(['w', 'w'])).rejects.toThrow(/count the call twice/)
    expect((await limiter.peek('w')).usage[0]?.used).toBe(0)
  })
})

test.each<[string, unknown, string]>([
  [
    'no unit',
    {},
    'limiter must name exactly one of requests, tokens, inputTokens, outputTokens, usd, points, uncachedInputTokens, concurrency; it names none (got {})',
  ],
  ['no window', { requests: 1 }, 'limiter.per is required: the window of the limit (got undefined)'],
  ['a limit below 0', { requests: -1, per: 'minute' }, 'limiter.requests must be a number from 0 to 1000000000000 (got -1)'],
  ['no number', { tokens: Number.NaN, per: 'minute' }, 'limiter.tokens must be a number from 0 to 1000000000000 (got NaN)'],
  ['an unknown field', { requests: 1, per: 'minute', bursts: 2 }, 'limiter.bursts is not a known field (got 2)'],
  [
    'a burst without a bucket',
    { requests: 1, per: 'minute', algorithm: 'sliding_log', burst: 2 },
    'limiter.burst contradicts sliding_log, which has no burst (got 2)',
  ],
  ['null', null, 'limiter must be an object with named fields (got null)'],
  ['text', 'fast', 'limiter must be an object with named fields (got "fast")'],
  ['an empty list', [], 'limiter must have 1 to 32 limits (got 0)'],
  [
    'a bad one in a list',
    [
      { requests: 1, per: 'minute' },
      { requests: 1, per: 'fortnight' },
    ],
    'limiter.1.per must be second, minute, hour, day, week, month, quarter, year or a duration such as 10s, 15m (got "fortnight")',
  ],
  [
    'two limits of one name',
    [
      { requests: 1, per: 'minute' },
      { requests: 5, per: 'minute', burst: 1 },
    ],
    'limiter.1 contradicts limiter.0: both are requests/minute; keep one, or give them names',
  ],
])('a limiter is refused for %s, naming field, value and bound', async (_what, spec, message) => {
  const tollgate = await newPlace('memory').open()
  expect(() => tollgate.limiter(spec as LimitSpec)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID', message }))
})

test('a limiter with a concurrency is refused, naming gate.acquire instead', async () => {
  const tollgate = await newPlace('memory').open()
  expect(() => tollgate.limiter({ concurrency: 2 })).toThrow(/^limiter\.concurrency is for rules: .*; use tollgate\.gate\.acquire$/)
})

test.each<[string, unknown, unknown, RegExp]>([
  ['an empty key', '', 1, /^key: must be a string of 1 to 256 characters \(got ""\)$/],
  ['a key of 257 characters', 'x'.repeat(257), 1, /^key: must be a string of 1 to 256 characters \(got /],
  ['a key that is a number', 5, 1, /^key: must be a string.* \(got 5\)$/],
  ['half a surrogate pair', 'a\ud800', 1, /^key: .*\(got "a\\ud800"\)$/],
  ['a cost below 0', 'u', -1, /^cost: must be a number from 0 to 1000000000000 \(got -1\)$/],
  ['a cost that is text', 'u', '1', /^cost: must be a number from 0 to 1000000000000 \(got "1"\)$/],
  ['a cost that is no number', 'u', Number.NaN, /^cost: .*\(got NaN\)$/],
  ['too large a cost', 'u', 1e13, /^cost: .*\(got 10000000000000\)$/],
])('%s is refused, and nothing is charged', async (_what, key, cost, message) => {
  const tollgate = await newPlace('memory').open()
  const limiter = tollgate.limiter({ requests: 10, per: 'minute' })
  const custom = tollgate.limiter({ name: 'own', check: () => ({ allowed: true, state: 1, retryAfterMs: null }) })
  for (const one of [limiter, custom, tollgate.all([limiter])]) {
    for (const method of [one.consume, one.peek, one.checkOrThrow]) {
      const refused = expect.objectContaining({ code: 'CALL_INVALID', message: expect.stringMatching(message) as string })
      await expect(method.call(one, key as string, cost as number)).rejects.toThrow(refused)
    }
  }
  expect((await limiter.peek('u')).remaining).toBe(10)
})

test('all takes limiters of its own Tollgate only, and as many keys as it has limiters', async () => {
  const [tollgate, other] = [await newPlace('memory').open(), await newPlace('memory').open()]
  const limiter = tollgate.limiter({ requests: 1, per: 'minute' })
  const custom = tollgate.limiter({ name: 'own', check: () => ({ allowed: true, state: 1, retryAfterMs: null }) })
  for (const bad of [[], null, limiter, [null], [limiter, custom], [other.limiter({ requests: 1, per: 'minute' })]])
    expect(() => tollgate.all(bad as never)).toThrow(/^all must be given a list of limiters of this Tollgate, one at least; /)
  await expect(tollgate.all([limiter]).check(['a', 'b'])).rejects.toThrow('key: must be a string, or 1 strings, one for each limiter (got ["a","b"])')
})

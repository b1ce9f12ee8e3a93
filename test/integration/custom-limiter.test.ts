import { describe, expect, test } from 'vitest'
import { type CustomSpec, GivenClock, MemoryStore, type StateResult, Tollgate } from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'
import { codeOf, newPlace, PLACES } from '../support/place.js'
import { Script } from '../support/script.js'
import { T0 } from '../support/script-client.js'

/** Allows `most` in total. */
function counter(most: number, name = 'counter'): CustomSpec<{ count: number }> {
  return {
    name,
    check: (state, _now, cost) => {
      const count = (state?.count ?? 0) + cost
      return count <= most ? { allowed: true, state: { count }, retryAfterMs: null } : { allowed: false, state: state ?? { count: 0 }, retryAfterMs: null }
    },
  }
}

/** Allows one call per 500 ms. */
const SPACED: CustomSpec<number> = {
  name: 'spaced',
  check: (next, now) =>
    next === null || next <= now ? { allowed: true, state: now + 500, retryAfterMs: null } : { allowed: false, state: next, retryAfterMs: next - now },
}

describe.each(PLACES)('in %s', (place) => {
  test('a custom algorithm admits exactly as many calls as it allows, however many are checked at once', async () => {
    const shared = newPlace(place)
    const limiters = await Promise.all(Array.from({ length: 4 }, async () => (await shared.open()).limiter(counter(100))))
    const answers = await Promise.all(limiters.flatMap((limiter) => Array.from({ length: 50 }, () => limiter.check('k'))))
    expect(answers.filter(({ allowed }) => allowed)).toHaveLength(100)
  })

  test('check is called with the last state of the key, the time of the store, and the cost', async () => {
    const clock = new GivenClock(T0)
    const given: unknown[][] = []
    const tollgate = await newPlace(place, clock).open()
    const limiter = tollgate.limiter<string[]>({
      name: 'notes',
      check: (state, now, cost) => {
        given.push([state, now, cost])
        return { allowed: true, state: [...(state ?? []), `after ${cost}`], retryAfterMs: null }
      },
    })
    await limiter.check('k')
    clock.advance(70)
    await limiter.consume('k', 2.5)
    await limiter.check('another')
    expect(given).toEqual([
      [null, T0, 1],
      [['after 1'], T0 + 70, 2.5],
      [null, T0 + 70, 1],
    ])
  })

  test('a refusal has the time after which the call passes, and changes no state', async () => {
    const clock = new GivenClock(T0)
    const limiter = (await newPlace(place, clock).open()).limiter(SPACED)
    expect(await limiter.check('k')).toMatchObject({ allowed: true, limitExceeded: null, retryAfterMs: 0 })
    clock.advance(120)
    expect(await limiter.check('k')).toMatchObject({ allowed: false, limitExceeded: 'spaced', retryAfterMs: 380, remaining: null, resetAt: null, usage: [] })
    const error: unknown = await limiter.checkOrThrow('k').catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'RATE_LIMIT_EXCEEDED', limit: 'spaced', retryAfterMs: 380 })
    clock.advance(380)
    expect((await limiter.peek('k')).allowed).toBe(true)
    expect((await limiter.check('k')).allowed).toBe(true)
    expect((await limiter.peek('k')).allowed).toBe(false)
  })

  test('resetting a key begins anew, for that key', async () => {
    const limiter = (await newPlace(place).open()).limiter(counter(1))
    await limiter.check('k')
    await limiter.check('other')
    await limiter.reset('k')
    await limiter.reset('never-seen')
    expect((await limiter.check('k')).allowed).toBe(true)
    expect((await limiter.check('other')).allowed).toBe(false)
  })

  test('limiters of one name share their states, others do not', async () => {
    const shared = newPlace(place)
    const [one, other] = [await shared.open(), await shared.open()]
    await one.limiter(counter(1)).check('k')
    expect((await other.limiter(counter(1)).peek('k')).allowed).toBe(false)
    expect((await other.limiter(counter(1, 'another')).peek('k')).allowed).toBe(true)
  })

  test('a state is forgotten keepMs after its last change', async () => {
    const clock = new GivenClock(T0)
    const limiter = (await newPlace(place, place === 'memory' ? clock : undefined).open()).limiter({ ...counter(1), keepMs: place === 'memory' ? 1000 : 1 })
    await limiter.check('k')
    clock.advance(1000)
    // With Redis' own clock keepMs is 1 ms, which is over soon.
    await expect.poll(async () => (await limiter.peek('k')).allowed).toBe(true)
  })

  test.each<[string, unknown, RegExp]>([
    ['nothing', undefined, /^limiter\.check must answer \{ allowed, state, retryAfterMs \} \(got undefined\)$/],
    ['a boolean', true, /^limiter\.check must answer .* \(got true\)$/],
    ['a promise', Promise.resolve({ allowed: true, state: 1, retryAfterMs: null }), /^limiter\.check must answer /],
    ['no state', { allowed: true, retryAfterMs: null }, /^limiter\.check must answer a state that JSON can hold \(got undefined\)$/],
    ['a function for a state', { allowed: true, state: () => 1, retryAfterMs: null }, /^limiter\.check must answer a state that JSON can hold /],
    [
      'a time below 0',
      { allowed: false, state: 1, retryAfterMs: -5 },
      /^limiter\.check must answer a retryAfterMs that is a number from 0 or null \(got -5\)$/,
    ],
    ['a time that is text', { allowed: false, state: 1, retryAfterMs: 'soon' }, /\(got "soon"\)$/],
    ['a time that is no number', { allowed: false, state: 1, retryAfterMs: Number.NaN }, /\(got NaN\)$/],
  ])('an algorithm that answers %s is refused, and its state stays as it was', async (_what, answer, message) => {
    const tollgate = await newPlace(place).open()
    await tollgate.limiter(counter(5)).consume('k', 3)
    const broken = tollgate.limiter<unknown>({ name: 'counter', check: () => answer as never })
    await expect(broken.check('k')).rejects.toThrow(expect.objectContaining({ code: 'CONFIG_INVALID', message: expect.stringMatching(message) as string }))
    expect((await tollgate.limiter(counter(5)).peek('k', 2)).allowed).toBe(true)
    expect((await tollgate.limiter(counter(5)).peek('k', 3)).allowed).toBe(false)
  })

  test('an error that an algorithm throws rejects that check alone', async () => {
    const limiter = (await newPlace(place).open()).limiter<number>({
      name: 'moody',
      check: (_state, _now, cost) => {
        if (cost === 13) throw new Error('not that number')
        return { allowed: true, state: cost, retryAfterMs: null }
      },
    })
    const checks = await Promise.allSettled([limiter.consume('k', 1), limiter.consume('k', 13), limiter.consume('k', 2)])
    expect(checks.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
    await expect(limiter.consume('k', 13)).rejects.toThrow('not that number')
  })
})

test('processes that share a key admit exactly as many calls as the algorithm allows', async () => {
  const namespace = newNamespace()
  const code = `
const tollgate = await Tollgate.open({ namespace: '${namespace.name}' })
const limiter = tollgate.limiter({ name: 'counter', check: (state) => {
  const count = state?.count ?? 0
  return count < 100 ? { allowed: true, state: { count: count + 1 }, retryAfterMs: null } : { allowed: false, state, retryAfterMs: null }
} })
let passed = 0
await Promise.all(Array.from({ length: 50 }, async () => { if ((await limiter.check('k')).allowed) passed++ }))
console.log(passed)
await tollgate.close()
`
  const scripts = Array.from({ length: 4 }, () => new Script(code, { REDIS_URL: namespace.url }))
  const passed = (await Promise.all(scripts.map((script) => script.result()))) as number[]
  expect(passed.reduce((sum, one) => sum + one, 0)).toBe(100)
})

/** A store in which another caller changes the state before every write. */
class BusyStore extends MemoryStore {
  private others = 0

  override compareAndSet(name: string, key: string, was: string, becomes: string, keepMs: number): StateResult {
    if (becomes !== '') super.compareAndSet(name, key, was, String(--this.others), 3_600_000)
    return super.compareAndSet(name, key, was, becomes, keepMs)
  }
}

test('a check whose state is changed by others each time fails with LIMITER_CONTENDED after 50 tries', async () => {
  const tollgate = await Tollgate.open({ store: new BusyStore() })
  let checks = 0
  const limiter = tollgate.limiter<number>({
    name: 'busy',
    check: (state) => {
      checks++
      return { allowed: true, state: Math.abs(state ?? 0), retryAfterMs: null }
    },
  })
  const error: unknown = await limiter.check('k').catch((thrown: unknown) => thrown)
  expect(error).toMatchObject({ code: 'LIMITER_CONTENDED', status: 503, retryable: true })
  expect((error as Error).message).toBe('the state of "k" in limiter busy was changed by others 50 times in a row')
  expect(checks).toBe(50)
  expect(await codeOf(limiter.reset('k'))).toBe('LIMITER_CONTENDED')
  await tollgate.close()
})

test.each<[string, Partial<CustomSpec<unknown>>, string]>([
  ['no name', {}, 'limiter.name must be 1 to 64 letters, digits, . _ or -, and begin with a letter or digit (got undefined)'],
  ['a bad name', { name: 'a b' }, 'limiter.name must be 1 to 64 letters, digits, . _ or -, and begin with a letter or digit (got "a b")'],
  ['no function', { name: 'a', check: 5 as never }, 'limiter.check must be a function (got 5)'],
  ['a state that is not kept', { name: 'a', keepMs: 0 }, 'limiter.keepMs must be a whole number from 1 to 31622400000 (got 0)'],
  ['a state that is kept for half a ms', { name: 'a', keepMs: 0.5 }, 'limiter.keepMs must be a whole number from 1 to 31622400000 (got 0.5)'],
])('a custom algorithm with %s is refused', async (_what, spec, message) => {
  const tollgate = await newPlace('memory').open()
  const check = () => ({ allowed: true, state: null, retryAfterMs: null })
  expect(() => tollgate.limiter({ check, ...spec } as CustomSpec<unknown>)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID', message }))
})

test('the store in memory forgets states whose keepMs is over, as others are written', () => {
  let nowMs = 0
  const store = new MemoryStore(() => nowMs)
  for (let key = 0; key < 10_000; key++, nowMs++) store.compareAndSet('mine', String(key), '', '1', 10)
  expect(store.size).toBeLessThanOrEqual(1000)
})

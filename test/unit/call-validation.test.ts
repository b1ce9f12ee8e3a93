import fc from 'fast-check'
import { expect, test } from 'vitest'
import { MAX_AMOUNT } from '../../src/model/call.js'
import { COST_UNITS } from '../../src/model/cost.js'
import { CallInvalid } from '../../src/model/errors.js'
import { callOfJob } from '../../src/queue/stored-call.js'
import { validateCall } from '../../src/validation/call.js'
import { show } from '../../src/validation/faults.js'
import { BAD_CALLS, MEGABYTE } from '../support/bad-calls.js'

test.each(BAD_CALLS)('a call with $what is refused, naming field, value and bound', ({ call, message }) => {
  let error: unknown
  try {
    validateCall(call)
  } catch (thrown) {
    error = thrown
  }
  expect(error).toBeInstanceOf(CallInvalid)
  expect((error as CallInvalid).code).toBe('CALL_INVALID')
  expect((error as CallInvalid).message).toMatch(message)
  expect((error as CallInvalid).message.length).toBeLessThan(500)
})

test.each([
  ['emoji', '👩‍👩‍👧 team'],
  ['right-to-left text', 'משתמש שלום'],
  ['a right-to-left override', 'a\u202eb'],
  ['combining marks', 'e\u0301'],
  ['a precomposed letter', '\u00e9'],
  ['fullwidth letters', 'ａｄｍｉｎ'],
  ['zero-width characters', 'a\u200bb'],
  ['separators', '/|:{}%* "\'\\'],
  ['256 characters', 'x'.repeat(256)],
  ['128 emoji, 256 in UTF-16', '😀'.repeat(128)],
  ['__proto__', '__proto__'],
  ['constructor', 'constructor'],
])('a name of %s is taken as it is', (_, name) => {
  const call = { agent: name, model: name, user: name, team: name, org: name, keys: { region: name } }
  expect(validateCall(call)).toEqual(call)
})

test.each([['constructor'], ['toString'], ['hasOwnProperty'], ['prototype'], ['a b/c|d:e'], ['ключ']])('a key can be named %s', (key) => {
  const { keys } = validateCall({ agent: 'a', keys: { [key]: 'v' } })
  expect(Object.entries(keys ?? {})).toEqual([[key, 'v']])
})

test('nothing of a call reaches the prototype of objects', () => {
  const text = '{"agent":"a","payload":{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}},"keys":{"constructor":"c"}}'
  const call = validateCall(JSON.parse(text))
  expect(JSON.stringify(call.payload)).toBe('{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}')
  expect(Object.getPrototypeOf(call)).toBe(Object.prototype)
  expect(({} as Record<string, unknown>)['polluted']).toBeUndefined()
})

test('the bounds themselves are valid', () => {
  const call = { agent: 'a', priority: 4000, cost: { requests: MAX_AMOUNT, tokens: 0 } }
  expect(validateCall(call)).toEqual(call)
  expect(validateCall({ agent: 'a', priority: -4000, cost: { tokens: 0.25 } }).priority).toBe(-4000)
  expect(validateCall({ agent: 'a', user: undefined, cost: undefined, keys: {} })).toEqual({ agent: 'a', user: undefined, cost: undefined, keys: {} })
})

test('a cost can be given in every unit, in fractions', () => {
  const cost = { requests: 2, tokens: 30.5, inputTokens: 20.25, outputTokens: 10.25, usd: 0.0000125, points: 0.5, uncachedInputTokens: 7.5 }
  expect(validateCall({ agent: 'a', cost })).toEqual({ agent: 'a', cost })
  expect(Object.keys(cost)).toEqual(COST_UNITS)
  // The quick check does not accept ids: this call goes through the schema.
  expect(validateCall({ agent: 'a', id: 'i', cost })).toEqual({ agent: 'a', id: 'i', cost })
})

test.each(['call-1', '01x', '1.5', '-x', 'a/b', 'NaNs', 'waiter', '😀', 'META', '__proto__'])('%j can be an id', (id) => {
  expect(validateCall({ agent: 'a', id }).id).toBe(id)
})

test('validateCall returns a call or throws CallInvalid, for any value', () => {
  const fields = ['id', 'agent', 'endpoint', 'model', 'user', 'team', 'org', 'ip', 'keys', 'cost', 'priority', 'strategy', 'payload', 'other']
  const any = fc.oneof(fc.anything({ withBigInt: true, withDate: true, withMap: true, withNullPrototype: true }), fc.string({ unit: 'binary' }))
  const calls = fc.oneof(any, fc.dictionary(fc.constantFrom(...fields), any))
  fc.assert(
    fc.property(calls, (input) => {
      try {
        const call = validateCall(input)
        expect(call.agent.isWellFormed() && call.agent.length >= 1 && call.agent.length <= 256).toBe(true)
      } catch (error) {
        expect(error).toBeInstanceOf(CallInvalid)
      }
    }),
    { numRuns: 1000 },
  )
})

test('show returns a short text for any value', () => {
  const circular: Record<string, unknown> = {}
  circular['self'] = circular
  const bare = Object.assign(Object.create(null) as object, { self: circular })
  expect(show(circular)).toBe('[object Object]')
  expect(show(bare)).toBe('[object Object]')
  expect(show('x'.repeat(MEGABYTE))).toMatch(/^"x{76}… \(1048578 characters\)$/)
  expect([show(Number.NaN), show(10n), show(undefined), show(null), show(Symbol('s'))]).toEqual(['NaN', '10', 'undefined', 'null', 'Symbol(s)'])
})

test('data that names an agent is read as a call, and fields that a call does not have are its payload', () => {
  const data = { agent: 'openai', user: 'u', other: 1 }
  expect(callOfJob('job', data)).toEqual({ agent: 'openai', user: 'u', payload: data })
  expect(callOfJob('job', { agent: 'openai', payload: 5 })).toEqual({ agent: 'openai', payload: 5 })
  expect(callOfJob('job', { agent: 'openai', id: 'x:y', payload: null })).toEqual({ agent: 'openai', payload: null })
})

test.each([[null], ['text'], [5], [[1, 2]], [{ to: 'x' }]])(
  'data that names no agent is the payload of a call to the agent the job is named after: %j',
  (data) => {
    expect(callOfJob('mailer', data)).toEqual({ agent: 'mailer', payload: data })
  },
)

test('a job name that is too long is cut, never through a character', () => {
  expect(callOfJob('x'.repeat(300), {}).agent).toBe('x'.repeat(256))
  expect(callOfJob(`${'x'.repeat(255)}😀`, {}).agent).toBe('x'.repeat(255))
  expect(() => callOfJob('', {})).toThrow(/^agent: /)
})

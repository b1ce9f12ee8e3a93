import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Call } from '../../src/model/call.js'
import { compileMatch } from '../../src/policy/match.js'
import { parseRange } from '../../src/validation/address.js'

const matchesUser = (glob: string, user: string) => compileMatch({ users: [glob] })({ agent: 'a', user })

test('no match covers every call', () => {
  expect(compileMatch(undefined)({ agent: 'a' })).toBe(true)
  expect(compileMatch({})({ agent: 'a' })).toBe(true)
})

test.each([
  ['openai', 'openai', true],
  ['openai', 'OpenAI', false],
  ['openai', 'openai2', false],
  ['*', 'anything at all', true],
  ['gpt-*', 'gpt-', true],
  ['gpt-*', 'xgpt-4', false],
  ['*-mini', 'gpt-4o-mini', true],
  ['*-mini', 'gpt-4o-mini-high', false],
  ['a*b*c', 'a-b-b-c', true],
  ['a*b*c', 'a-c-b', false],
  ['**', 'x', true],
  ['?', 'x', true],
  ['?', 'xy', false],
  ['??*', 'x', false],
  ['*?', 'x', true],
  ['gpt-?o', 'gpt-4o', true],
  ['a.c', 'abc', false],
  ['a.c*', 'abc', false],
  ['[ab]*', 'a', false],
  ['[ab]*', '[ab]!', true],
  ['(x|y)?', '(x|y)z', true],
  ['^a$*', '^a$', true],
  ['a\\*', 'a\\b', true],
  ['{a,b}*', 'a', false],
  ['+*', '+1', true],
  ['a*', 'a\u2028b', true],
  ['?', '😀', true],
  ['??', '😀', false],
  ['*😀', 'x😀', true],
  ['e*', 'e\u0301', true],
  ['é', 'e\u0301', false],
])('the glob %s and the value %s: %s', (glob, value, matches) => {
  expect(matchesUser(glob, value)).toBe(matches)
})

test('a glob of many stars is matched without exponential backtracking', () => {
  expect(matchesUser(`${'*a'.repeat(120)}*b`, 'a'.repeat(256))).toBe(false)
  expect(matchesUser(`${'*a'.repeat(120)}*`, 'a'.repeat(256))).toBe(true)
})

test('globs match as the equivalent regular expressions do', () => {
  const few = (characters: string[]) => fc.array(fc.constantFrom(...characters), { maxLength: 7 }).map((parts) => parts.join(''))
  fc.assert(
    fc.property(few(['a', 'b', '*', '?', '.']), few(['a', 'b', '.', '😀']), (glob, value) => {
      const plain = new RegExp(`^${glob.replaceAll('.', '\\.').replace(/\*+/g, '[^]*').replaceAll('?', '[^]')}$`, 'u')
      expect(matchesUser(glob, value)).toBe(plain.test(value))
    }),
    { numRuns: 2000 },
  )
})

test('a list matches if any of its entries does, and every list that is given must match', () => {
  const matches = compileMatch({ agents: ['openai', 'mistral'], models: ['gpt-*'], teams: ['alpha'] })
  const call: Call = { agent: 'openai', model: 'gpt-4o', team: 'alpha' }
  expect(matches(call)).toBe(true)
  expect(matches({ ...call, agent: 'mistral' })).toBe(true)
  expect(matches({ ...call, agent: 'other' })).toBe(false)
  expect(matches({ ...call, model: 'o3' })).toBe(false)
  expect(matches({ ...call, team: 'beta' })).toBe(false)
  expect(matches({ agent: 'openai', model: 'gpt-4o' })).toBe(false)
})

test('a call that lacks a matched field is not covered, not even by *', () => {
  for (const list of ['endpoints', 'models', 'users', 'teams', 'orgs'] as const) expect(compileMatch({ [list]: ['*'] })({ agent: 'a' })).toBe(false)
  expect(compileMatch({ ips: ['0.0.0.0/0', '::/0'] })({ agent: 'a' })).toBe(false)
})

test.each([
  ['10.0.0.0/8', '10.255.255.255', true],
  ['10.0.0.0/8', '11.0.0.0', false],
  ['10.1.2.3', '10.1.2.3', true],
  ['10.1.2.3', '10.1.2.4', false],
  ['10.1.2.3/8', '10.9.9.9', true],
  ['0.0.0.0/0', '203.0.113.9', true],
  ['10.1.2.3/32', '10.1.2.3', true],
  ['10.0.0.0/8', '::ffff:10.1.2.3', true],
  ['10.0.0.0/8', '::1', false],
  ['2001:db8::/32', '2001:0DB8:0::5', true],
  ['2001:db8::/32', '2001:db9::', false],
  ['::1', '0:0:0:0:0:0:0:1', true],
  ['::/0', '2001:db8::1', true],
])('the range %s and the address %s: %s', (range, ip, matches) => {
  expect(parseRange(range)?.(ip)).toBe(matches)
  expect(compileMatch({ ips: [range] })({ agent: 'a', ip })).toBe(matches)
})

test.each([
  '',
  '/',
  '10.0.0.0/',
  '10.0.0.0/33',
  '10.0.0.0/-1',
  '10.0.0.0/8/8',
  '10.0.0.0/8.5',
  '10.0.0',
  '010.0.0.1',
  '256.0.0.1',
  '2001:db8::/129',
  '::g',
  'localhost',
  ' 10.0.0.1',
  '10.0.0.0/1e1',
])('%j is not a range', (range) => {
  expect(parseRange(range)).toBeNull()
})

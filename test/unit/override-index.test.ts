import { expect, test } from 'vitest'
import type { Allowance, LimitSpec, Override } from '../../src/index.js'
import { scaleLimit } from '../../src/limits/limit.js'
import { compileRules } from '../../src/policy/compile.js'
import { OverrideIndex } from '../../src/policy/override-index.js'

function override(id: string, subject: Override['for'], allow: Allowance, more: Partial<Override> = {}): Override {
  return { id, for: subject, allow, reason: 'other', by: 'x', grantedAt: '2030-01-01T00:00:00.000Z', until: '2030-01-02T00:00:00.000Z', ...more }
}

test.each<[string, LimitSpec, number, LimitSpec]>([
  ['a limit', { requests: 10, per: 'minute' }, 2.5, { requests: 25, per: 'minute' }],
  ['its burst', { requests: 10, per: 'minute', burst: 20 }, 2, { requests: 20, per: 'minute', burst: 40 }],
  ['a burst as a multiple by its limit', { requests: 10, per: 'minute', burstMultiplier: 2 }, 2, { requests: 20, per: 'minute', burstMultiplier: 2 }],
  ['slots to whole ones', { concurrency: 5 }, 0.5, { concurrency: 2 }],
  ['slots to one at least', { concurrency: 2 }, 0.1, { concurrency: 1 }],
  ['a closed limit to a closed one', { requests: 0, per: 'minute' }, 5, { requests: 0, per: 'minute' }],
  ['a bucket to less than one a window, holding one', { requests: 1, per: 'day', burst: 2 }, 0.1, { requests: 0.1, per: 'day', burst: 1 }],
  ['a window to one call at least', { requests: 4, per: 'day', algorithm: 'fixed_window' }, 0.1, { requests: 1, per: 'day', algorithm: 'fixed_window' }],
  ['tokens as they are', { tokens: 3, per: 'day', algorithm: 'fixed_window' }, 0.1, { tokens: 0.30000000000000004, per: 'day', algorithm: 'fixed_window' }],
  ['up to the largest limit', { requests: 1e12, per: 'day' }, 10, { requests: 1e12, per: 'day' }],
])('a factor scales %s', (_what, limit, times, scaled) => {
  expect(scaleLimit(limit, times)).toEqual(scaled)
  expect(() => compileRules([{ name: 'r', scope: 'global', limits: [scaleLimit(limit, times)] }])).not.toThrow()
})

test('all calls that meet one meter are overridden alike, whatever else they say', () => {
  const rules = new OverrideIndex([override('a', { user: 'u' }, 'unlimited'), override('b', { agent: 'llm' }, { times: 2 })], {})
  const of = (scopes: string[], call: object) => rules.decide({ name: 'r', scope: scopes }, { agent: 'llm', user: 'u', ...call })?.override?.id ?? null
  expect([of(['user'], {}), of(['user'], { agent: 'other' })]).toEqual(['a', 'a'])
  expect([of(['agent'], {}), of(['agent'], { user: 'other' })]).toEqual(['b', 'b'])
  expect(of(['user', 'agent'], { user: 'other' })).toBe('b')
  expect(of(['org'], { org: 'u' })).toBeNull()
  expect(of(['global'], {})).toBeNull()
})

test('an override for some rules is for these only, by name or glob', () => {
  const rules = new OverrideIndex([override('a', { user: 'u' }, 'unlimited', { rules: ['gpt-*', 'exact'] })], {})
  const of = (rule: string) => rules.decide({ name: rule, scope: ['user'] }, { agent: 'llm', user: 'u' }) !== null
  expect(['gpt-4', 'gpt-', 'exact', 'exactly', 'other'].map(of)).toEqual([true, true, true, false, false])
  expect(rules.candidates({ name: 'other', scope: ['user'] })).toBeNull()
  expect(rules.candidates({ name: 'exact', scope: ['user'] })).toHaveLength(1)
  expect(rules.candidates({ name: 'exact', scope: ['agent'] })).toBeNull()
})

test('values that look like names of objects are values', () => {
  const rules = new OverrideIndex([override('a', { user: 'constructor' }, 'unlimited')], { users: ['__proto__'] })
  const of = (user: string) => rules.decide({ name: 'r', scope: ['user'] }, { agent: 'llm', user }) !== null
  expect(['constructor', '__proto__', 'toString'].map(of)).toEqual([true, true, false])
})

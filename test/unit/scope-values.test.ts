import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Resolver } from '../../src/admission/resolver.js'
import type { Call } from '../../src/model/call.js'
import { NOTHING } from '../../src/model/cost.js'
import { compileRules } from '../../src/policy/compile.js'
import { blockValue, scopeValueOf } from '../../src/policy/match.js'
import { Keys } from '../../src/redis/keys.js'

const nasty = fc
  .array(fc.constantFrom('a', 'b', '/', '|', ':', '{', '}', '%', '*', ' ', '+', '.', '-', '~', '%7C', '%2F', 'é', 'e\u0301', '😀', '\u202e', "'"), {
    minLength: 1,
    maxLength: 5,
  })
  .map((parts) => parts.join(''))

test('two different values never share a scope value', () => {
  const byUser = scopeValueOf(['user'])
  fc.assert(
    fc.property(nasty, nasty, (one, other) => {
      expect(byUser({ agent: 'x', user: one }) === byUser({ agent: 'x', user: other })).toBe(one === other)
    }),
    { numRuns: 3000 },
  )
})

test('two different pairs of values never share a scope value', () => {
  const byBoth = scopeValueOf(['user', 'agent'])
  fc.assert(
    fc.property(nasty, nasty, nasty, nasty, (user, agent, otherUser, otherAgent) => {
      expect(byBoth({ user, agent }) === byBoth({ user: otherUser, agent: otherAgent })).toBe(user === otherUser && agent === otherAgent)
    }),
    { numRuns: 3000 },
  )
})

test('a separator within a name is escaped', () => {
  const byBoth = scopeValueOf(['user', 'agent'])
  const values = [
    { user: 'a|b', agent: 'c' },
    { user: 'a', agent: 'b|c' },
    { user: 'a%7Cb', agent: 'c' },
    { user: 'a/b', agent: 'c' },
    { user: 'a', agent: 'b/c' },
    { user: 'a%2Fb', agent: 'c' },
    { user: '*', agent: 'c' },
    { user: '%2A', agent: 'c' },
  ].map(byBoth)
  expect(new Set(values).size).toBe(8)
  expect(values.slice(0, 2)).toEqual(['a%7Cb|c', 'a|b%7Cc'])
})

test('a scope value never breaks the hash tag of its keys, and parseLine reads it from the key of a line', () => {
  const keys = new Keys('space')
  const rules = compileRules([{ name: 'r.1', scope: ['user', 'agent'], limits: [{ concurrency: 5 }] }])
  const resolver = new Resolver(rules, keys)
  fc.assert(
    fc.property(nasty, nasty, (user, agent) => {
      for (const meter of resolver.resolve({ user, agent }, NOTHING).meters) {
        for (const key of [...meter.keys, meter.line]) expect(/\{([^}]*)\}/.exec(key)?.[1]).toBe('tollgate:space')
        expect(keys.parseLine(meter.line)).toEqual({ rule: meter.rule.name, value: meter.value })
        expect(new Set([...meter.keys, meter.line]).size).toBe(meter.keys.length + 1)
      }
    }),
    { numRuns: 500 },
  )
})

test.each(['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'prototype', 'valueOf'])('%s is a name like any other', (name) => {
  const keys = new Keys('space')
  const scope = `keys.${name}`
  const specs = [
    { name: 'by-user', scope: 'user', limits: [{ requests: 1, per: 'minute' }] },
    { name: name.replaceAll('_', 'x'), scope: name === '__proto__' ? 'org' : scope, limits: [{ requests: 1, per: 'minute' }] },
  ]
  const resolver = new Resolver(compileRules(specs), keys)
  const call: Call = { agent: name, user: name, org: name, keys: { [name]: name } }
  expect(resolver.resolve(call, NOTHING).meters.map(({ value }) => value)).toEqual([name, name, `${name}||`])
  expect(scopeValueOf([scope])({ agent: 'a', keys: {} })).toBeNull()
  expect(scopeValueOf([scope])({ agent: 'a' })).toBeNull()
})

test('spellings of one address have one scope value, different addresses differ', () => {
  const byIp = scopeValueOf(['ip'])
  const value = (ip: string) => byIp({ agent: 'a', ip })
  expect(new Set(['::1', '0:0:0:0:0:0:0:1', '0::0:1'].map(value)).size).toBe(1)
  expect(new Set(['2001:db8::a', '2001:DB8:0::A', '2001:0db8:0000:0000:0000:0000:0000:000a'].map(value)).size).toBe(1)
  expect(new Set(['10.0.0.1', '::ffff:10.0.0.1', '::FFFF:a00:1', '0:0:0:0:0:ffff:10.0.0.1'].map(value))).toEqual(new Set(['10.0.0.1']))
  const singly = scopeValueOf(['ip'], { ipv6Prefix: 128 })
  expect(new Set(['10.0.0.1', '10.0.0.10', '::10.0.0.1', '::1', '::'].map((ip) => singly({ agent: 'a', ip }))).size).toBe(5)
  expect(new Set(['2001:db8::1', '2001:db8::2', '2001:db8:0:1::1'].map(value))).toEqual(new Set(['2001%3Adb8%3A%3A%2F64', '2001%3Adb8%3A0%3A1%3A%3A%2F64']))
})

test('each combination of agent, endpoint and model has its own block, also where endpoint or model is missing', () => {
  const value = (call: Call) => blockValue(call)
  const values = [
    { agent: 'a' },
    { agent: 'a', endpoint: 'm' },
    { agent: 'a', model: 'm' },
    { agent: 'a', endpoint: '|', model: 'm' },
    { agent: 'a|', model: 'm' },
  ].map(value)
  expect(new Set(values).size).toBe(5)
})

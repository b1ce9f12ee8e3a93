import { expect, test } from 'vitest'
import { Keys } from '../../src/redis/keys.js'

/** The hash tag of a key: Redis Cluster hashes only this part. */
const tagOf = (key: string) => /\{([^}]+)\}/.exec(key)?.[1]

test('all keys of a namespace carry its hash tag', () => {
  const keys = new Keys('shop.eu-1')
  const all = [
    keys.prefix,
    ...keys.fixed,
    keys.dispatcher,
    keys.rules,
    keys.members,
    keys.merged('n'),
    keys.notices,
    keys.meter('r', 'v'),
    keys.line('r', 'v'),
    keys.leases('r', 'v'),
    keys.call('q/1'),
    keys.job('q/1'),
    keys.ledger('n'),
    keys.sender('n'),
  ]
  expect(all.map(tagOf)).toEqual(all.map(() => 'tollgate:shop.eu-1'))
  expect(new Set(all).size).toBe(all.length)
})

test('namespaces that begin alike share no key', () => {
  const keys = ['a', 'a.', 'a-b', 'a_b', 'A'].map((name) => new Keys(name).prefix)
  expect(keys.some((one) => keys.some((other) => one !== other && other.startsWith(one)))).toBe(false)
})

test('meter, line and leases have keys that differ, also for rules and values that concatenate alike', () => {
  const keys = new Keys('n')
  const all = [
    ['r', 'v'],
    ['r', 'r/v'],
    ['r.v', ''],
    ['rv', ''],
    ['r', ''],
  ].flatMap(([rule = '', value = '']) => [keys.meter(rule, value), keys.line(rule, value), keys.leases(rule, value)])
  expect(new Set(all).size).toBe(all.length)
})

test('parseLine reads rule and value from the key of a line, and null from other keys', () => {
  const keys = new Keys('n')
  expect(keys.parseLine(keys.line('rule.1', 'a/b|c'))).toEqual({ rule: 'rule.1', value: 'a/b|c' })
  expect(keys.parseLine(keys.line('rule', ''))).toEqual({ rule: 'rule', value: '' })
  expect(keys.parseLine(keys.meter('rule', 'v'))).toBeNull()
  expect(keys.parseLine(new Keys('other').line('rule', 'v'))).toBeNull()
  expect(keys.parseLine(`${keys.prefix}/l/rule`)).toBeNull()
  expect(keys.parseLine('')).toBeNull()
})

test.each(['', '.a', '-a', '_a', 'a b', 'a/b', 'a:b', 'a{b', 'a}b', 'a\n', 'ä', 'a'.repeat(65)])('%j is not a namespace', (name) => {
  expect(() => new Keys(name)).toThrow(/^namespace must be 1 to 64 letters, digits, \. _ or - \(got ".*"\)$/)
})

test('a namespace may have 64 characters, and dots and dashes inside', () => {
  expect(new Keys('a'.repeat(64)).prefix).toBe(`{tollgate:${'a'.repeat(64)}}`)
  expect(new Keys('0.a_B-1').prefix).toBe('{tollgate:0.a_B-1}')
})

import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { RuleSpec } from '../../src/index.js'
import type { Call } from '../../src/model/call.js'
import { compileRules } from '../../src/policy/compile.js'
import { RuleIndex } from '../../src/policy/rule-index.js'
import { runs } from '../support/runs.js'

const LIMITS = [{ requests: 1, per: 'minute' }]
const name = fc.constantFrom('a', 'b', 'ab', 'ba', 'c')
const glob = fc.oneof(name, fc.constantFrom('a*', '*b', '?', '*'))
const listed = fc.option(fc.array(glob, { minLength: 1, maxLength: 3 }), { nil: undefined })
const match = fc.record({
  agents: listed,
  users: listed,
  models: listed,
  endpoints: listed,
  ips: fc.option(fc.constantFrom(['10.0.0.0/8'], ['10.1.0.0/16', '::/0']), { nil: undefined }),
  keys: fc.option(fc.record({ tier: fc.array(glob, { minLength: 1, maxLength: 2 }) }), { nil: undefined }),
})
const rule = fc.record({ scope: fc.constantFrom('global', 'user', 'agent', 'keys.tier'), match: fc.option(match, { nil: undefined }), enabled: fc.boolean() })
const optional = (of: fc.Arbitrary<string>) => fc.option(of, { nil: undefined })
const call: fc.Arbitrary<Call> = fc
  .record({
    agent: name,
    user: optional(name),
    model: optional(name),
    endpoint: optional(name.map((one) => `/${one}?q=1`)),
    ip: optional(fc.constantFrom('10.1.2.3', '11.0.0.1')),
    tier: optional(name),
  })
  .map(({ tier, ...rest }) => ({ ...rest, keys: tier === undefined ? undefined : { tier } }) as Call)

test('the index finds all rules that cover a call, in their order', () => {
  fc.assert(
    fc.property(fc.array(rule, { maxLength: 30 }), fc.array(call, { minLength: 1, maxLength: 20 }), (specs, calls) => {
      const { rules } = compileRules(specs.map((spec, n) => ({ ...spec, name: `r${n}`, limits: LIMITS }) as RuleSpec))
      const index = new RuleIndex(rules.map((one) => ({ rule: one })))
      for (const one of calls) {
        const found = index.candidates(one).filter(({ rule: { scopeValue } }) => scopeValue(one) !== null)
        expect(found.map(({ rule: { name: of } }) => of)).toEqual(rules.filter(({ scopeValue }) => scopeValue(one) !== null).map(({ name: of }) => of))
      }
    }),
    { numRuns: runs(300) },
  )
})

test('rules that list other values, or globs that do not match, are no candidates', () => {
  const other = (n: number): RuleSpec => ({
    name: `r${n}`,
    scope: 'user',
    match: n % 2 === 0 ? { agents: [`other${n}`] } : { users: [`${n}-*`] },
    limits: LIMITS,
  })
  const { rules } = compileRules([{ name: 'all', scope: 'global', limits: LIMITS }, ...Array.from({ length: 100 }, (_, n) => other(n))])
  const index = new RuleIndex(rules.map((one) => ({ rule: one })))
  const names = (asked: Call) => index.candidates(asked).map(({ rule: { name: of } }) => of)
  expect(names({ agent: 'llm', user: 'u' })).toEqual(['all'])
  expect(names({ agent: 'other4', user: '7-x' })).toEqual(['all', 'r4', 'r7'])
})

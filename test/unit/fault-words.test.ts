import fc from 'fast-check'
import { expect, test } from 'vitest'
import { checkQuery } from '../../src/administration/audit.js'
import { checkGrant } from '../../src/administration/grant.js'
import { checkLimiterLimits } from '../../src/limiter/spec.js'
import { checkOptions } from '../../src/options.js'
import { checkRules } from '../../src/policy/rules-file.js'
import { validateCall } from '../../src/validation/call.js'
import { runs } from '../support/runs.js'

const LIMIT = { requests: 5, per: 'minute', algorithm: 'token_bucket', burst: 5, name: 'l' }

/** A valid input of each kind, and what checks it. */
const INPUTS: Readonly<Record<string, [unknown, (input: never) => unknown]>> = {
  rules: [
    [{ name: 'r', scope: ['org', 'user'], limits: [LIMIT], strategy: 'queue', match: { agents: ['a*'], ips: ['10.0.0.0/8'] }, maxWaiting: 5 }],
    checkRules,
  ],
  limiter: [[LIMIT], checkLimiterLimits],
  call: [{ agent: 'a', org: 'o', keys: { k: 'v' }, cost: { tokens: 5 }, priority: 1, maxWaitMs: 5, deadline: '2030-01-01T00:00:00Z' }, validateCall],
  override: [{ for: { org: 'a' }, allow: { limits: [LIMIT] }, forMs: 5000, reason: 'testing', by: 'ann' }, (input) => checkGrant(input, undefined)],
  audit: [{ since: '2026-01-01T00:00:00Z', by: 'ann', what: 'rule.added', limit: 5 }, checkQuery],
  options: [
    { redis: 'redis://h', namespace: 'n', queue: 'q', onStoreError: 'closed', strategies: {}, estimate: () => ({}), storeTimeoutMs: 5, upstream: {} },
    checkOptions,
  ],
}

/** The paths of an input, its own included. */
function paths(input: unknown): PropertyKey[][] {
  if (input === null || typeof input !== 'object') return [[]]
  return [[], ...Object.entries(input).flatMap(([key, value]) => paths(value).map((path) => [key, ...path]))]
}

function replaced(input: unknown, [key, ...rest]: readonly PropertyKey[], value: unknown): unknown {
  if (key === undefined) return value
  const copy = (Array.isArray(input) ? [...input] : { ...(input as object) }) as Record<PropertyKey, unknown>
  copy[key] = replaced(copy[key], rest, value)
  return copy
}

const JUNK: readonly unknown[] = [
  undefined,
  null,
  0,
  -1,
  0.5,
  1e300,
  Number.NaN,
  5n,
  '',
  'x',
  'x'.repeat(5000),
  true,
  [],
  [[]],
  {},
  { toString: 5 },
  Symbol('s'),
  () => 5,
  new Date(Number.NaN),
]

test.each(Object.entries(INPUTS))('a fault of %s is told in words of ours, none of the validation library', (_, [valid, check]) => {
  expect(() => check(valid as never)).not.toThrow()
  const refusals = new Set<string>()
  fc.assert(
    fc.property(fc.constantFrom(...paths(valid)), fc.constantFrom(...JUNK), (path, junk) => {
      try {
        check(replaced(valid, path, junk) as never)
      } catch (error) {
        const { code, message } = error as { code?: string; message: string }
        expect(code).toMatch(/_INVALID$/)
        expect(message).toMatch(/\(got /)
        expect(message).not.toMatch(/Invalid|expected|received|Too (small|big)|Unrecognized/)
        refusals.add(message)
      }
    }),
    { numRuns: runs(400) },
  )
  expect(refusals.size).toBeGreaterThan(5)
})

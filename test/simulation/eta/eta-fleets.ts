import type { LimitSpec, RuleSpec } from '../../../src/index.js'
import type { ScriptedRound } from '../fleet/spec.js'
import type { Scenario } from '../scenarios/scenario.js'
import { scenario } from '../scenarios/scenario.js'

type Algorithm = NonNullable<LimitSpec['algorithm']>
const ALGORITHMS: readonly Algorithm[] = ['token_bucket', 'leaky_bucket', 'fixed_window', 'sliding_window', 'sliding_log']
const CALLS = 1000
const ROUNDS = 20

/** Rounds of calls half a second apart, faster than their limits; costs by turns from the list. */
function backlog(tokens: readonly number[], users: readonly string[] = ['u1'], orgs: readonly string[] = ['x']): ScriptedRound[] {
  return Array.from({ length: ROUNDS }, (_, round) => ({
    atMs: 500 + 500 * round,
    calls: Array.from({ length: CALLS / ROUNDS }, (_unused, at) => {
      const nth = (round * CALLS) / ROUNDS + at
      const pick = <T>(list: readonly T[]) => list[nth % list.length] as T
      return { count: 1, ms: 20, tokens: pick(tokens), user: pick(users), org: pick(orgs) }
    }),
  }))
}

function fleet(name: string, rules: readonly RuleSpec[], script: readonly ScriptedRound[]): Scenario {
  return scenario(name, name, { rules, workers: [{ concurrency: 100 }, { concurrency: 100 }], apps: [script] })
}

const EQUAL = [20]
const MIXED = [20, 200, 60, 20, 400, 120, 20]

/** Fleets in which 1,000 calls are told when they start: every algorithm, equal and mixed costs, one limit and several. */
export const ETA_FLEETS: readonly Scenario[] = ALGORITHMS.flatMap((algorithm) => {
  const requests: LimitSpec = { requests: 40, per: '2s', algorithm }
  const tokens: LimitSpec = { tokens: 4800, per: '2s', algorithm }
  return [
    fleet(`${algorithm}, one limit`, [{ name: 'account', scope: 'agent', limits: [requests] }], backlog(EQUAL)),
    fleet(`${algorithm}, mixed costs`, [{ name: 'account', scope: 'agent', limits: [tokens] }], backlog(MIXED)),
    fleet(`${algorithm}, requests and tokens`, [{ name: 'account', scope: 'agent', limits: [requests, tokens] }], backlog(MIXED)),
    fleet(
      `${algorithm}, two limits one after the other`,
      [
        {
          name: 'account',
          scope: 'agent',
          limits: [
            { requests: 40, per: 'second', burst: 10 },
            { ...requests, requests: 300, per: '15s' },
          ],
        },
      ],
      backlog(EQUAL),
    ),
    fleet(
      `${algorithm}, two rules one after the other`,
      [
        { name: 'account', scope: 'agent', limits: [{ requests: 40, per: 'second', burst: 10 }] },
        { name: 'org', scope: 'org', limits: [{ ...requests, requests: 300, per: '15s' }] },
      ],
      backlog(EQUAL),
    ),
    fleet(
      `${algorithm}, several users under one account`,
      [
        { name: 'user', scope: 'user', limits: [{ ...requests, requests: 20, per: '2s' }] },
        { name: 'account', scope: 'agent', limits: [{ requests: 25, per: 'second', burst: 10 }] },
      ],
      backlog(EQUAL, ['u1', 'u2', 'u3', 'u4', 'u1', 'u1']),
    ),
  ]
})

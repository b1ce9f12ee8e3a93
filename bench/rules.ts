import type { RuleSpec, Tollgate } from '../src/index.js'
import { AT_ONCE } from './lib/compare.js'
import { atMost, type Figure, median, percentile } from './lib/measure.js'
import { inNamespaces, openHere } from './lib/namespace.js'

const ROOMY = 1_000_000_000
const MATCHING = 3
const RULES = [MATCHING, 1000] as const
const BAR = 1.1
const PAIRS = 9
const CHECKS = 4000
const NAMESPACES = RULES.map((rules) => `bench-rules-${rules}`)

const limits = [{ requests: ROOMY, per: 'day' }]

/** Three rules that match every call of the bench, and others that match none, by each kind of match that rules have. */
function rulesOf(count: number): RuleSpec[] {
  const matching: RuleSpec[] = [
    { name: 'all', scope: 'global', limits },
    { name: 'agent', scope: 'agent', match: { agents: ['llm'] }, limits },
    { name: 'user', scope: 'user', match: { models: ['big-*'] }, limits },
  ]
  const kinds = ['agents', 'users', 'orgs', 'models', 'endpoints'] as const
  const others = Array.from({ length: count - matching.length }, (_, n): RuleSpec => {
    const kind = kinds[n % kinds.length] as (typeof kinds)[number]
    const name = kind === 'models' || kind === 'endpoints' ? `other-${n}-*` : `other-${n}`
    return { name: `other-${n}`, scope: 'user', match: { [kind]: [name] }, limits }
  })
  return [...matching, ...others]
}

/** @returns µs of this process' CPU per check */
async function cpuPerCheck(tollgate: Tollgate): Promise<number> {
  const before = process.cpuUsage()
  let next = 0
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      while (next < CHECKS) {
        const user = `u${next++ % 500}`
        const grant = await tollgate.gate.admit({ agent: 'llm', endpoint: '/v1/chat', model: 'big-1', user, org: 'acme' })
        if (grant.usage.length !== MATCHING) throw new Error(`${grant.usage.length} rules matched instead of ${MATCHING}`)
      }
    }),
  )
  const { user, system } = process.cpuUsage(before)
  return (user + system) / CHECKS
}

/** What a thousand rules cost a call that three of them match. */
export function rules(redis: string): Promise<Figure[]> {
  return inNamespaces(redis, NAMESPACES, async () => {
    const [few, many] = (await Promise.all(RULES.map((count) => openHere({ redis, namespace: `bench-rules-${count}`, rules: rulesOf(count) })))) as [
      Tollgate,
      Tollgate,
    ]
    for (const tollgate of [few, many]) await cpuPerCheck(tollgate)
    const pairs: [few: number, many: number][] = []
    for (let pair = 0; pair < PAIRS; pair++) {
      if (pair % 2 === 0) pairs.push([await cpuPerCheck(few), await cpuPerCheck(many)])
      else {
        const second = await cpuPerCheck(many)
        pairs.push([await cpuPerCheck(few), second])
      }
    }
    const ratios = pairs.map(([one, other]) => other / one)
    const spread = `${percentile(ratios, 0.25).toFixed(2)} to ${percentile(ratios, 0.75).toFixed(2)} in the middle half of ${PAIRS} pairs`
    const each = `${median(pairs.map(([one]) => one)).toFixed(1)} µs with ${MATCHING} rules, ${median(pairs.map(([, one]) => one)).toFixed(1)} with ${RULES[1]}`
    return [
      atMost(`rules: CPU of a check under ${RULES[1]} rules of which ${MATCHING} match ÷ under ${MATCHING} rules`, median(ratios), BAR, `${spread}; ${each}`),
    ]
  })
}

import { expect, test } from 'vitest'
import { coverageOf, warningsOf } from '../../src/policy/lint.js'
import { parseRules } from '../../src/policy/rules-file.js'

const LIMITS = '[{ requests: 10, per: minute }]'
const parse = (text: string) => parseRules(text, 'rules.yaml')
const one = (rule: string, more = '') => warningsOf(parse(`rules:\n  - { name: r, scope: agent, ${rule} }\n${more}`))
const AGENT = 'agents:\n  openai: { baseUrl: "https://api.openai.com" }\n'

test('a file that means what it says has no warning', () => {
  expect(one(`match: { agents: ["open*"], endpoints: ["/v1/*", "v1/chat/?ompletions"] }, limits: ${LIMITS}`, AGENT)).toEqual([])
  expect(one(`match: { agents: [anything] }, limits: ${LIMITS}`)).toEqual([])
  expect(
    one('limits: [{ usd: 1, per: day }, { tokens: 200000, per: minute }, { tokens: 0, per: day, name: shut }]', 'prices: { "*": { input: 1, output: 1 } }'),
  ).toEqual([])
  expect(one(`enabled: false, match: { agents: [x] }, limits: ${LIMITS}`, AGENT)).toEqual([])
})

test.each([
  ['an agent that no config knows', `match: { agents: [openai, claude] }, limits: ${LIMITS}`, AGENT, ['match.agents names "claude"']],
  ['only agents that no config knows', `match: { agents: ["cl*"] }, limits: ${LIMITS}`, AGENT, ['match.agents names "cl*"', 'it covers no call']],
  ['dollars without prices', 'limits: [{ usd: 1, per: day }]', '', ['limit usd/day counts usd, and there is no price for *']],
  [
    'dollars without a price of a model',
    'match: { models: [gpt-4o, other] }, limits: [{ usd: 1, per: day }]',
    'prices: { gpt-4o: { input: 1, output: 1 } }',
    ['limit usd/day counts usd, and there is no price for other'],
  ],
  [
    'tokens for less than a call',
    'limits: [{ tokens: 300, per: minute }]',
    '',
    ['limit tokens/minute holds 300 tokens, less than one usual call costs (about 1012)'],
  ],
  ['a burst for less than a call', 'limits: [{ outputTokens: 90000, per: hour, burst: 100 }]', '', ['limit outputTokens/hour holds 100 outputTokens']],
  ['graceful without another model', `strategy: graceful, degraded: ${LIMITS}, limits: ${LIMITS}`, AGENT, ['it is graceful, and no agent has a degradeTo']],
  [
    'an endpoint that none can be',
    `match: { endpoints: ["https://api.openai.com/v1/*"] }, limits: ${LIMITS}`,
    '',
    ['match.endpoints names', 'it covers no call'],
  ],
  ['everybody exempt', `limits: ${LIMITS}`, 'exempt: { agents: ["*"] }', ['it limits no call: exempt has every agent']],
])('%s is warned of', (_what, rule, more, expected) => {
  const warnings = one(rule, more)
  expect(warnings.map((warning, n) => warning.slice(0, `rule r: ${expected[n]}`.length))).toEqual(expected.map((warning) => `rule r: ${warning}`))
})

test('of a call it is said which rules cover it, and why the others do not', () => {
  const { rules } = parse(`
rules:
  - { name: covers, scope: [org, agent], limits: ${LIMITS} }
  - { name: off, scope: agent, enabled: false, limits: ${LIMITS} }
  - { name: unmatched, scope: agent, match: { models: ["gpt-*"], keys: { plan: [free] }, agents: [a] }, limits: ${LIMITS} }
  - { name: lacking, scope: [user, keys.x], limits: ${LIMITS} }
  - { name: requiring, scope: agent, requires: [team], limits: ${LIMITS} }
`)
  expect(coverageOf(rules, { agent: 'a', org: 'acme', model: 'claude' }).map(({ covers, value, why }) => [covers, value, why])).toEqual([
    [true, 'acme|a', 'it counts the call by org and agent'],
    [false, null, 'the rule is not enabled'],
    [false, null, 'the call does not fit match.models ["gpt-*"] and match.keys.plan ["free"]'],
    [false, null, 'the call has no user and no keys.x, which the rule counts by'],
    [false, null, 'the call is refused: the rule requires team'],
  ])
})

import { tokensIn } from '../sample-agent/chat-request.js'
import { seededRandom } from '../sample-agent/random.js'
import { type Account, AGENT, accountOfAgent, accountRule } from './account.js'
import type { Plan, PlannedCall } from './plan.js'

const ACCOUNT: Account = { requestsPerSecond: 20, requestBurst: 10, tokensPerMinute: 330_000, tokenBurst: 20_000 }
/** The limit of each organisation: half of the account. */
const PER_ORG = { requestsPerSecond: 10, burst: 10, concurrency: 12 }

/** acme enqueues 25 seconds of its limit at once; the others send waves within theirs. */
const WAVES: readonly { readonly org: string; readonly calls: number; readonly atMs: readonly number[] }[] = [
  { org: 'acme', calls: 250, atMs: [0] },
  { org: 'globex', calls: 32, atMs: [0, 6000, 12_000, 18_000] },
  { org: 'initech', calls: 28, atMs: [0, 6000, 12_000, 18_000] },
]

const SENTENCE = 'Summarise what this customer wants and say who should answer. '

/** Three organisations share one account; one of them is far over its own limit. */
export function burstPlan(): Plan {
  const random = seededRandom(7)
  const callOf = (org: string, number: number): PlannedCall => {
    const content = SENTENCE.repeat(3 + Math.floor(random() * 22))
    const maxTokens = 20 + Math.floor(random() * 120)
    return {
      id: `${org}-${number}`,
      agent: AGENT,
      org,
      model: 'sample-large',
      // The estimate is what the agent reserves; the usage in its answer settles the call.
      cost: { tokens: tokensIn(content) + maxTokens },
      payload: { model: 'sample-large', messages: [{ role: 'user', content }], max_tokens: maxTokens },
    }
  }
  const calls = WAVES.flatMap(({ org, calls, atMs }) =>
    atMs.flatMap((at, wave) => Array.from({ length: calls }, (_, index) => ({ atMs: at, call: callOf(org, wave * calls + index) }))),
  )
  return {
    title: `${calls.length} calls of ${WAVES.length} organisations share one account; acme is far over its own limit`,
    account: ACCOUNT,
    rules: [
      accountRule(ACCOUNT),
      { name: 'org', scope: 'org', limits: [{ requests: PER_ORG.requestsPerSecond, per: 'second', burst: PER_ORG.burst }] },
      { name: 'parallel', scope: 'org', limits: [{ concurrency: PER_ORG.concurrency }] },
    ],
    agent: { ...accountOfAgent(ACCOUNT), latencyMs: 500, jitterMs: 200 },
    orgs: WAVES.map(({ org }) => org),
    calls: calls.sort((a, b) => a.atMs - b.atMs),
    concurrency: 50,
    longestMs: 60_000,
  }
}

import type { RuleSpec } from '../../src/index.js'
import type { AgentOptions } from '../sample-agent/options.js'

/** What the provider allows our account: the numbers that the gate keeps and the agent enforces. */
export interface Account {
  readonly requestsPerSecond: number
  readonly requestBurst: number
  readonly tokensPerMinute: number
  readonly tokenBurst: number
}

export const AGENT = 'sample'

/**
 * A call that takes this much longer on its way than the one before arrives this much
 * nearer to the one after. The gate counts starts, the agent arrivals: whoever enforces to
 * the last request has to forgive what the network does. At 20 a second these are two.
 */
const TRANSIT_MS = 100

export function accountRule(account: Account): RuleSpec {
  return {
    name: 'account',
    scope: 'agent',
    limits: [
      { requests: account.requestsPerSecond, per: 'second', burst: account.requestBurst },
      { tokens: account.tokensPerMinute, per: 'minute', burst: account.tokenBurst },
    ],
  }
}

/** The agent's side: the same rates, and bursts that are larger by what transit can shift. */
export function accountOfAgent(account: Account): Partial<AgentOptions> {
  const { requestsPerSecond, requestBurst, tokensPerMinute, tokenBurst } = account
  return {
    requestsPerSecond,
    requestBurst: requestBurst + Math.ceil((requestsPerSecond * TRANSIT_MS) / 1000),
    tokensPerMinute,
    tokenBurst: tokenBurst + Math.ceil((tokensPerMinute / 60) * (TRANSIT_MS / 1000)),
  }
}

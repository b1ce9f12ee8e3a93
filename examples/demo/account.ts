import type { RuleSpec } from '../../src/index.js'
import type { AgentOptions } from '../sample-agent/options.js'

/** The limits of the account at the provider: Tollgate's rules have them, and the agent enforces them. */
export interface Account {
  readonly requestsPerSecond: number
  readonly requestBurst: number
  readonly tokensPerMinute: number
  readonly tokenBurst: number
}

export const AGENT = 'sample'

/**
 * Tollgate counts starts, the agent counts arrivals. A call that travels longer than the one
 * before arrives nearer to the one after it; so an agent that enforces to the last request
 * needs a burst that is larger by this time. At 20 requests a second these are two.
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

/** The limits of the agent: the same rates, and bursts larger by the arrivals of TRANSIT_MS. */
export function accountOfAgent(account: Account): Partial<AgentOptions> {
  const { requestsPerSecond, requestBurst, tokensPerMinute, tokenBurst } = account
  return {
    requestsPerSecond,
    requestBurst: requestBurst + Math.ceil((requestsPerSecond * TRANSIT_MS) / 1000),
    tokensPerMinute,
    tokenBurst: tokenBurst + Math.ceil((tokensPerMinute / 60) * (TRANSIT_MS / 1000)),
  }
}

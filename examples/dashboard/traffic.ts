import { setTimeout as sleep } from 'node:timers/promises'
import type { Call, RuleSpec, Tollgate } from '../../src/index.js'
import { UpstreamLimited } from '../../src/index.js'

/** What the pages are shown with: an account that all share, orgs with a limit of their own, users that degrade, and budgets. */
export const RULES: readonly RuleSpec[] = [
  {
    name: 'account',
    scope: 'agent',
    limits: [{ tokens: 90_000, per: 'minute', burst: 9000 }, { requests: 600, per: 'minute', burst: 50 }, { concurrency: 12 }],
  },
  {
    name: 'per-org',
    scope: 'org',
    limits: [
      { requests: 180, per: 'minute', burst: 30 },
      { tokens: 70_000, per: 'minute' },
    ],
  },
  {
    name: 'per-user',
    scope: ['org', 'user'],
    strategy: 'graceful',
    degraded: [{ requests: 20, per: 'minute' }],
    limits: [{ requests: 60, per: 'minute', burst: 20 }],
  },
  {
    name: 'budget',
    scope: 'org',
    strategy: 'hard',
    limits: [
      { usd: 12, per: 'month', algorithm: 'fixed_window' },
      { usd: 9, per: 'day', algorithm: 'fixed_window' },
    ],
  },
]

export const PRICES = { 'gpt-4o': { input: 2.5, output: 10 }, 'claude-sonnet': { input: 3, output: 15 }, 'text-embedding': { input: 0.1, output: 0 } }

interface Sender {
  readonly org: string
  readonly user: string
  readonly agent: string
  readonly model: string
  /** Calls per second. */
  readonly rate: number
  readonly tokens: number
}

const SENDERS: readonly Sender[] = [
  { org: 'globex', user: 'nightly', agent: 'openai', model: 'gpt-4o', rate: 2.2, tokens: 900 },
  { org: 'globex', user: 'leo', agent: 'openai', model: 'gpt-4o', rate: 0.4, tokens: 1600 },
  { org: 'acme', user: 'ben', agent: 'openai', model: 'gpt-4o', rate: 0.5, tokens: 800 },
  { org: 'acme', user: 'ida', agent: 'anthropic', model: 'claude-sonnet', rate: 0.6, tokens: 1100 },
  { org: 'initech', user: 'mia', agent: 'anthropic', model: 'claude-sonnet', rate: 0.5, tokens: 1400 },
  { org: 'initech', user: 'tom', agent: 'openai', model: 'gpt-4o', rate: 0.3, tokens: 700 },
  { org: 'acme', user: 'index', agent: 'embeddings', model: 'text-embedding', rate: 4, tokens: 300 },
]

/** From 0 to 1, the same in every run. */
function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
    return state / 2_147_483_648
  }
}

/** Sends calls until the signal aborts. @param fast how many times as many as the senders' rates say */
export async function sendTraffic(tollgate: Tollgate, signal: AbortSignal, fast = 1): Promise<void> {
  const random = randomFrom(7)
  const due = SENDERS.map(() => 0)
  const everyMs = 100
  while (!signal.aborted) {
    const calls: Call[] = SENDERS.flatMap(({ org, user, agent, model, rate, tokens }, n) => {
      const owed = (due[n] ?? 0) + (rate * fast * everyMs) / 1000
      due[n] = owed % 1
      return Array.from({ length: Math.floor(owed) }, () => {
        const total = Math.round(tokens * (0.6 + 0.8 * random()))
        const inputTokens = Math.round(total * 0.6)
        return { org, user, agent, model, endpoint: '/v1/chat/completions', cost: { inputTokens, outputTokens: total - inputTokens }, payload: { of: user } }
      })
    })
    if (calls.length > 0) await tollgate.enqueueMany(calls)
    await sleep(everyMs, undefined, { signal }).catch(() => {})
  }
}

/** Starts a worker that plays the agents: it takes its time, uses a little less than was estimated, and anthropic refuses a call now and then. */
export function playAgents(tollgate: Tollgate, concurrency = 40) {
  const random = randomFrom(11)
  return tollgate.worker(
    async ({ agent, cost }, { signal }) => {
      await sleep(150 + 500 * random(), undefined, { signal })
      if (agent === 'anthropic' && random() < 0.01) throw new UpstreamLimited({ retryAfterMs: 3000 })
      const { inputTokens = 200, outputTokens = 100 } = cost ?? {}
      return { output: 'done', usage: { inputTokens, outputTokens: Math.round(outputTokens * (0.7 + 0.4 * random())) } }
    },
    { concurrency },
  )
}

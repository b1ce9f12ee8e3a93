import { basename } from 'node:path'
import { type Account, AGENT, accountOfAgent, accountRule } from './account.js'
import type { Plan, PlannedCall } from './plan.js'
import { readTrace, type Traced } from './trace-file.js'

const ORG = 'trace'
/** The length of an answer is not known beforehand; the settlement corrects this guess. */
const GUESSED_OUTPUT = 64
/** The account allows this multiple of the trace's average: calls of a peak wait, and start after it. */
const HEADROOM = 1.25
const LATENCY_MS = 80
const CONCURRENCY = 128
/** How long a replay takes where no speed is given. */
const USUAL_MS = 25_000

function accountFor(trace: readonly Traced[], durationMs: number): Account {
  const perSecond = (total: number) => Math.max(1, Math.ceil((total / Math.max(durationMs, 1000)) * 1000 * HEADROOM))
  const requestsPerSecond = perSecond(trace.length)
  const tokensPerSecond = perSecond(trace.reduce((sum, { contextTokens, generatedTokens }) => sum + contextTokens + generatedTokens, 0))
  const largest = trace.reduce((most, { contextTokens }) => Math.max(most, contextTokens + GUESSED_OUTPUT), 0)
  // The largest call must fit, or it could never start.
  return { requestsPerSecond, requestBurst: requestsPerSecond, tokensPerMinute: tokensPerSecond * 60, tokenBurst: Math.max(tokensPerSecond, 2 * largest) }
}

/** Replays a recorded trace, `speed` times as fast as it was, against an account that is a little above its average. */
export async function tracePlan(file: string, givenSpeed: number | undefined): Promise<Plan> {
  const trace = await readTrace(file)
  const recordedMs = trace.at(-1)?.atMs ?? 0
  const speed = givenSpeed ?? Math.max(1, Math.round(recordedMs / USUAL_MS))
  const account = accountFor(trace, recordedMs / speed)
  const callOf = ({ contextTokens, generatedTokens }: Traced, index: number): PlannedCall => ({
    id: `${ORG}-${index}`,
    agent: AGENT,
    org: ORG,
    cost: { tokens: contextTokens + GUESSED_OUTPUT },
    payload: { messages: [], replay_usage: { prompt_tokens: contextTokens, completion_tokens: generatedTokens } },
  })
  return {
    title: `${trace.length.toLocaleString('en')} calls of ${basename(file)}, replayed ${speed} times as fast`,
    account,
    rules: [accountRule(account), { name: 'parallel', scope: 'agent', limits: [{ concurrency: CONCURRENCY }] }],
    agent: { ...accountOfAgent(account), latencyMs: LATENCY_MS, jitterMs: LATENCY_MS / 2, defaultMaxTokens: GUESSED_OUTPUT },
    orgs: [ORG],
    calls: trace.map((traced, index) => ({ atMs: traced.atMs / speed, call: callOf(traced, index) })),
    concurrency: 2 * CONCURRENCY,
    longestMs: Math.ceil((recordedMs / speed) * 2) + 60_000,
  }
}

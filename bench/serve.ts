import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import OpenAI from 'openai'
import { Pool } from 'undici'
import type { AgentReady } from '../examples/sample-agent/main.js'
import { type AgentOptions, agentFlags } from '../examples/sample-agent/options.js'
import type { RuleSpec } from '../src/index.js'
import { atLeast, atMost, type Figure, median, percentile } from './lib/measure.js'
import { inNamespaces } from './lib/namespace.js'
import { Helper } from './lib/processes.js'

const NAMESPACE = 'bench-serve'
const AT_ONCE = 50
const ROUNDS = 5
const ROUND_MS = 2000
const HELD = 1000
const CLIENTS = 500
const PER_SECOND = 100
const OVERLOAD_CALLS = 3000
const ROOMY = { requestsPerSecond: 1e6, requestBurst: 1e6, tokensPerMinute: 1e10, tokenBurst: 1e10, jitterMs: 0 }
const RULES: RuleSpec[] = [
  {
    name: 'account',
    scope: 'agent',
    limits: [
      { requests: 1e9, per: 'minute' },
      { tokens: 1e11, per: 'minute' },
    ],
  },
]
const PATH = '/v1/chat/completions'
const BODY = {
  model: 'm',
  max_tokens: 5,
  messages: [{ role: 'user' as const, content: 'hello there' }],
  replay_usage: { prompt_tokens: 3, completion_tokens: 2 },
}

async function startAgent(options: Partial<AgentOptions>): Promise<{ url: string; child: ChildProcess }> {
  const child = fork(fileURLToPath(new URL('../examples/sample-agent/main.js', import.meta.url)), agentFlags({ port: 0, ...ROOMY, ...options }))
  const [{ url }] = (await once(child, 'message')) as [AgentReady]
  return { url, child }
}

/** Sends requests for a time, so many at once. @returns how long each took, in ms */
async function load(base: string, path: string, forMs: number, atOnce: number): Promise<number[]> {
  const pool = new Pool(base, { connections: atOnce })
  const body = JSON.stringify(BODY)
  const times: number[] = []
  const endMs = performance.now() + forMs
  const client = async () => {
    while (performance.now() < endMs) {
      const startedMs = performance.now()
      const response = await pool.request({ method: 'POST', path, headers: { 'content-type': 'application/json' }, body })
      await response.body.text()
      if (response.statusCode !== 200) throw new Error(`answered ${response.statusCode}`)
      times.push(performance.now() - startedMs)
    }
  }
  await Promise.all(Array.from({ length: atOnce }, client))
  await pool.close()
  return times
}

/** How long the first part of a streamed answer takes, in ms. */
async function firstByte(base: string, path: string): Promise<number> {
  const pool = new Pool(base)
  const startedMs = performance.now()
  const response = await pool.request({
    method: 'POST',
    path,
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ...BODY, stream: true }),
  })
  let firstMs: number | undefined
  for await (const _part of response.body) firstMs ??= performance.now() - startedMs
  await pool.close()
  return firstMs ?? Number.NaN
}

async function overhead(redis: string): Promise<Figure[]> {
  const { url: agent, child } = await startAgent({ latencyMs: 20 })
  const server = await Helper.start('serve-process', { redis, namespace: NAMESPACE, rules: RULES, baseUrl: agent })
  const base = await server.request<string>('url')
  const path = `/agents/llm${PATH}`
  await load(base, path, 1000, AT_ONCE)
  const rounds: { direct: number[]; through: number[] }[] = []
  for (let n = 0; n < ROUNDS; n++) rounds.push({ direct: await load(agent, PATH, ROUND_MS, AT_ONCE), through: await load(base, path, ROUND_MS, AT_ONCE) })
  // Of each pair of rounds the difference: what the machine does else meanwhile slows both.
  const added = (share: number) => median(rounds.map(({ direct, through }) => percentile(through, share) - percentile(direct, share)))
  const firsts: number[] = []
  for (let n = 0; n < 30; n++) firsts.push((await firstByte(base, path)) - (await firstByte(agent, PATH)))
  child.disconnect()
  const fast = await startAgent({ latencyMs: 0 })
  const quick = await Helper.start('serve-process', { redis, namespace: NAMESPACE, rules: RULES, baseUrl: fast.url })
  const quickBase = await quick.request<string>('url')
  await load(quickBase, path, 1000, AT_ONCE)
  const before = await quick.request<NodeJS.CpuUsage>('cpu')
  const count = (await load(quickBase, path, 5000, AT_ONCE)).length
  const after = await quick.request<NodeJS.CpuUsage>('cpu')
  const cpuMs = (after.user + after.system - before.user - before.system) / 1000 / count
  fast.child.disconnect()
  const detail = `${AT_ONCE} at a time, agent 20 ms, median of ${ROUNDS} pairs of rounds`
  return [
    atMost('pass-through: added at p50, ms', added(0.5), 3, detail),
    atMost('pass-through: added at p99, ms', added(0.99), 10, detail),
    atLeast(
      'pass-through: calls per second and process',
      count / 5,
      1500,
      `${cpuMs.toFixed(3)} ms of CPU per call in the server; agent and clients share the machine`,
    ),
    atMost('pass-through: first streamed byte after the agent’s, ms', median(firsts), 5, 'median of 30'),
  ]
}

async function held(redis: string): Promise<Figure[]> {
  // One call is at the agent and stays there: of all others none knows when there is room, so none is refused because that is too late.
  const { url: agent, child } = await startAgent({ latencyMs: 600_000 })
  const rules: RuleSpec[] = [{ name: 'account', scope: 'agent', limits: [{ concurrency: 1 }] }]
  const server = await Helper.start('serve-process', { redis, namespace: `${NAMESPACE}-held`, rules, baseUrl: agent })
  const base = await server.request<string>('url')
  const aborter = new AbortController()
  const hold = (count: number) => {
    for (let n = 0; n < count; n++)
      fetch(`${base}/agents/llm${PATH}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', prefer: 'wait=86400' },
        body: JSON.stringify({ ...BODY, stream: true }),
        signal: aborter.signal,
      }).catch(() => {})
  }
  const held = async (count: number) => {
    while ((await server.request<number>('held')) < count) await sleep(100)
    // The last ones get their place, and their first comment.
    await sleep(2000)
  }
  // What is made once is made by the first ones.
  hold(100)
  await held(100)
  const before = await server.request<number>('memory')
  hold(HELD)
  await held(100 + HELD)
  const after = await server.request<number>('memory')
  aborter.abort()
  child.disconnect()
  return [atMost('pass-through: kB per held client', (after - before) / HELD / 1024, 30, `heap and external memory, ${HELD} clients of streams that wait`)]
}

async function overload(redis: string): Promise<Figure[]> {
  const limits = { requestsPerSecond: PER_SECOND, requestBurst: 20 }
  const { url: agent, child } = await startAgent({ ...limits, latencyMs: 100 })
  const rules: RuleSpec[] = [{ name: 'account', scope: 'agent', limits: [{ requests: PER_SECOND, per: 'second', burst: 10 }] }]
  const server = await Helper.start('serve-process', { redis, namespace: `${NAMESPACE}-overload`, rules, baseUrl: agent })
  const base = await server.request<string>('url')
  const client = new OpenAI({ baseURL: `${base}/agents/llm/v1`, apiKey: 'none', timeout: 600_000 })
  let left = OVERLOAD_CALLS
  const startedMs = performance.now()
  const one = async () => {
    while (left-- > 0) await client.chat.completions.create(BODY)
  }
  await Promise.all(Array.from({ length: CLIENTS }, one))
  const tookS = (performance.now() - startedMs) / 1000
  const stats = (await (await fetch(`${agent}/stats`)).json()) as { tooMany: number }
  child.disconnect()
  const detail = `${CLIENTS} clients of openai 6, ${OVERLOAD_CALLS} calls at ${PER_SECOND}/s in ${tookS.toFixed(1)} s`
  return [
    atLeast('pass-through: utilisation under overload', (OVERLOAD_CALLS - 10) / PER_SECOND / tookS, 0.98, detail),
    atMost('pass-through: refusals by the agent', stats.tooMany, 0, detail),
  ]
}

/** What the pass-through of the server costs, beside the sample agent called directly. */
export function serveBench(redis: string): Promise<Figure[]> {
  return inNamespaces(redis, [NAMESPACE, `${NAMESPACE}-held`, `${NAMESPACE}-overload`], async () => [
    ...(await overhead(redis)),
    ...(await held(redis)),
    ...(await overload(redis)),
  ])
}

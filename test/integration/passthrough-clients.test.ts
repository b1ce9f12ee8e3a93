import Anthropic from '@anthropic-ai/sdk'
import OpenAI from 'openai'
import { expect, test } from 'vitest'
import type { RuleSpec } from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'
import { startSampleAgent } from '../support/sample-agent.js'
import { startServer, type TestServer } from '../support/server.js'
import { until } from '../support/until.js'

const BUDGET: RuleSpec = {
  name: 'budget',
  scope: 'agent',
  limits: [
    { requests: 1000, per: 'day', algorithm: 'fixed_window' },
    { tokens: 1e6, per: 'day', algorithm: 'fixed_window' },
  ],
}
const MESSAGES = [{ role: 'user' as const, content: 'Tell me about toll gates, in a few words.' }]
/** What the sample agent counts for them. */
const PROMPT = 11

async function serve(rules: RuleSpec[], options: { latencyMs?: number; settings?: object } = {}): Promise<TestServer> {
  const { url } = await startSampleAgent({ latencyMs: options.latencyMs ?? 0 })
  const agents = { llm: { baseUrl: url, apiKeyEnv: 'LLM_KEY' }, claude: { baseUrl: url, api: 'anthropic' as const, apiKeyEnv: 'LLM_KEY' } }
  return startServer(newNamespace(), { open: { rules }, agents, environment: { LLM_KEY: 'the-key-of-the-agent' }, settings: options.settings ?? {} })
}

function openai({ url }: TestServer, options: object = {}): OpenAI {
  return new OpenAI({ baseURL: `${url}/agents/llm/v1`, apiKey: 'none', ...options })
}

function anthropic({ url }: TestServer, options: object = {}): Anthropic {
  return new Anthropic({ baseURL: `${url}/agents/claude`, apiKey: 'none', ...options })
}

async function used({ tollgate }: TestServer, agent: string): Promise<Record<string, number>> {
  const { usage } = await tollgate.gate.peek({ agent, cost: { requests: 0, tokens: 0 } })
  return Object.fromEntries(usage.map(({ unit, used: amount }) => [unit, amount]))
}

test("OpenAI's client: chat, responses and embeddings, whole and streamed, are settled to the token", async () => {
  const server = await serve([BUDGET])
  const client = openai(server)
  const body = { model: 'm', messages: MESSAGES, max_tokens: 50, replay_usage: { prompt_tokens: PROMPT, completion_tokens: 7 } }
  const { data, response } = await client.chat.completions.create(body).withResponse()
  expect(data.choices[0]?.message.content).toBe('A sample answer.')
  expect(response.headers.get('x-tollgate-call')).toMatch(/^held-/)
  expect(response.headers.get('ratelimit')).toContain('"budget/requests/day";r=999')
  await until('it is settled', async () => (await used(server, 'llm'))['tokens'] === 18)

  const chunks: OpenAI.ChatCompletionChunk[] = []
  for await (const chunk of await client.chat.completions.create({ ...body, stream: true })) chunks.push(chunk)
  expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('')).toBe('word '.repeat(7))
  expect(chunks.filter(({ choices }) => choices.length === 0)).toEqual([])
  await until('it is settled', async () => (await used(server, 'llm'))['tokens'] === 36)

  const asked = await client.chat.completions.create({ ...body, stream: true, stream_options: { include_usage: true } })
  let last: OpenAI.ChatCompletionChunk | undefined
  for await (const chunk of asked) last = chunk
  expect(last).toMatchObject({ choices: [], usage: { total_tokens: 18 } })
  await until('it is settled', async () => (await used(server, 'llm'))['tokens'] === 54)

  const replay = { replay_usage: { prompt_tokens: 3, completion_tokens: 2 } }
  const answered = await client.responses.create({ model: 'm', input: 'Hello', ...replay })
  expect(answered.output_text).toBe('A sample answer.')
  let text = ''
  for await (const event of await client.responses.create({ model: 'm', input: 'Hello', stream: true, ...replay }))
    if (event.type === 'response.output_text.delta') text += event.delta
  expect(text).toBe('word word ')
  await until('it is settled', async () => (await used(server, 'llm'))['tokens'] === 64)
  await client.embeddings.create({ model: 'm', input: 'Hello', encoding_format: 'float', ...replay } as OpenAI.EmbeddingCreateParams)
  await until('it is settled', async () => (await used(server, 'llm'))['tokens'] === 67)
  await expect(client.files.list()).rejects.toMatchObject({ status: 404 })
  expect(await used(server, 'llm')).toEqual({ requests: 7, tokens: 67 })
})

test("Anthropic's client: messages, whole and streamed, are settled to the token", async () => {
  const server = await serve([BUDGET])
  const client = anthropic(server)
  const body = { model: 'm', messages: MESSAGES, max_tokens: 50, replay_usage: { prompt_tokens: PROMPT, completion_tokens: 7 } }
  const answer = await client.messages.create(body)
  expect(answer.content).toEqual([{ type: 'text', text: 'A sample answer.' }])
  const final = await client.messages.stream(body).finalMessage()
  expect(final).toMatchObject({ content: [{ text: 'word '.repeat(7) }], usage: { output_tokens: 7 } })
  await until('it is settled', async () => (await used(server, 'claude'))['tokens'] === 36)
})

test.each(['openai', 'anthropic'] as const)(
  'a call of %s waits instead of failing, is explained and paused, and a stream gets comments meanwhile',
  async (which) => {
    const server = await serve([{ name: 'slot', scope: 'agent', limits: [{ concurrency: 1 }] }], { latencyMs: 800 })
    const create = async (stream: boolean) => {
      const body = { model: 'm', messages: MESSAGES, max_tokens: 5, replay_usage: { prompt_tokens: 1, completion_tokens: 5 } }
      if (which === 'anthropic') return stream ? anthropic(server).messages.stream(body).finalText() : (await anthropic(server).messages.create(body)).model
      if (!stream) return (await openai(server).chat.completions.create(body)).model
      let text = ''
      for await (const chunk of await openai(server).chat.completions.create({ ...body, stream: true })) text += chunk.choices[0]?.delta.content ?? ''
      return text
    }
    const path = which === 'anthropic' ? '/agents/claude/v1/messages' : '/agents/llm/v1/chat/completions'
    const answers = [create(false), create(false)]
    await until('one waits', async () => (await server.tollgate.gate.peek({ agent: which === 'anthropic' ? 'claude' : 'llm' })).allowed === false)
    const raw = await fetch(server.url + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'm', stream: true, max_tokens: 3, messages: MESSAGES, replay_usage: { completion_tokens: 3 } }),
    })
    expect([raw.status, raw.headers.get('content-type')]).toEqual([200, 'text/event-stream; charset=utf-8'])
    const text = await raw.text()
    expect(text).toMatch(/^: waiting, position \d/)
    expect(text.match(/word /g)).toHaveLength(3)
    expect(await Promise.all(answers)).toEqual(['m', 'm'])
    expect(await create(true)).toBe('word '.repeat(5))
  },
)

test.each(['openai', 'anthropic'] as const)(
  'a refusal of %s has the shape of its own errors, says when to come back, and has the id to explain',
  async (which) => {
    const server = await serve([{ name: 'r', scope: 'agent', strategy: 'retry_after', limits: [{ requests: 1, per: 'day', algorithm: 'fixed_window' }] }])
    const body = { model: 'm', messages: MESSAGES, max_tokens: 5 }
    const create = () => (which === 'openai' ? openai(server).chat.completions.create(body) : anthropic(server).messages.create(body))
    await create()
    const error = (await create().catch((one: unknown) => one)) as InstanceType<typeof OpenAI.APIError>
    expect(error.constructor.name).toBe('RateLimitError')
    expect(error.status).toBe(429)
    // A day is too long for these clients: they would come back at once.
    expect(error.headers?.get('x-should-retry')).toBe('false')
    expect(Number(error.headers?.get('retry-after-ms'))).toBeGreaterThan(0)
    expect(Number(error.headers?.get('retry-after'))).toBeGreaterThan(0)
    expect(error.message).toContain('rule r, limit requests/day')
  },
)

test('the patience of a client counts: one that would wait longer than its own time-out is refused at once', async () => {
  const server = await serve([{ name: 'r', scope: 'agent', limits: [{ requests: 1, per: 'minute', burst: 1 }] }])
  const client = openai(server, { timeout: 5000, maxRetries: 0 })
  const body = { model: 'm', messages: MESSAGES, max_tokens: 5 }
  await client.chat.completions.create(body, { timeout: 5000 })
  const startedMs = performance.now()
  const error = (await client.chat.completions.create(body, { timeout: 5000 }).catch((one: unknown) => one)) as InstanceType<typeof OpenAI.APIError>
  expect([error.status, error.constructor.name]).toEqual([429, 'RateLimitError'])
  expect(error.headers?.get('x-should-retry')).toBe('true')
  expect(performance.now() - startedMs).toBeLessThan(2000)
})

test('a client that says nothing of its patience has that of its agent, else that of the server', async () => {
  const { url } = await startSampleAgent({ latencyMs: 1 })
  const server = await startServer(newNamespace(), {
    agents: { hasty: { baseUrl: url, patienceMs: 100 }, calm: { baseUrl: url } },
    open: { rules: [{ name: 'r', scope: 'agent', limits: [{ requests: 1, per: 'second', burst: 1 }] }] },
  })
  const post = (agent: string) => server.send('POST', `/agents/${agent}/v1/chat/completions`, { model: 'm', messages: MESSAGES, max_tokens: 5 })
  for (const agent of ['hasty', 'calm']) expect((await post(agent)).status).toBe(200)
  expect((await Promise.all([post('hasty'), post('calm')])).map(({ status }) => status)).toEqual([429, 200])
})

test('429s of the agent are not seen by the client: its call goes back to its line', async () => {
  const { url, agent } = await startSampleAgent({ requestsPerSecond: 5, requestBurst: 1 })
  const server = await startServer(newNamespace(), { agents: { llm: { baseUrl: url } }, open: { upstream: { canary: false } } })
  const client = openai(server, { maxRetries: 0 })
  const answers = await Promise.all([1, 2, 3, 4].map(() => client.chat.completions.create({ model: 'm', messages: MESSAGES, max_tokens: 5 })))
  expect(answers.map(({ object }) => object)).toEqual(Array(4).fill('chat.completion'))
  expect(agent.counters.tooMany).toBeGreaterThan(0)
})

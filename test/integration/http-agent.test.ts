import { expect, test } from 'vitest'
import { type Call, ConfigInvalid, httpAgent, parseRules, type RuleSpec, type Tollgate, type TollgateError } from '../../src/index.js'
import { json, startAgent } from '../support/http-agent.js'
import { newNamespace } from '../support/namespace.js'
import { until } from '../support/until.js'

const RULES: RuleSpec[] = [{ name: 'tokens', scope: 'agent', limits: [{ tokens: 100_000, per: 'day', algorithm: 'fixed_window' }] }]
const CALL: Call = { agent: 'openai', cost: { tokens: 5000 }, payload: { model: 'gpt-4o-mini', messages: [{ role: 'user', content: 'hello' }] } }
const USAGE = { prompt_tokens: 11, completion_tokens: 22, total_tokens: 33 }

async function used(tollgate: Tollgate, agent = 'openai'): Promise<number | undefined> {
  return (await tollgate.gate.peek({ agent, cost: { tokens: 0 } })).usage[0]?.used
}

/** Until every charge is settled: only then is `used` what the calls cost in the end. */
async function untilSettled(tollgate: Tollgate): Promise<void> {
  await until('every charge is settled', async () => (await tollgate.stats.ledger()).open === 0)
}

async function failure(work: Promise<unknown>): Promise<TollgateError> {
  return work.then(
    (value) => Promise.reject(new Error(`did not fail: ${JSON.stringify(value)}`)),
    (error: TollgateError) => error,
  )
}

test("an answer with usage settles the call's estimate", async () => {
  const agent = await startAgent((response) => json(response, { choices: [{ message: { content: 'hi' } }], usage: USAGE }))
  const tollgate = await newNamespace().open({ rules: RULES })
  tollgate.worker(httpAgent({ openai: { baseUrl: `${agent.url}/` } }, {}))
  const ticket = await tollgate.enqueue(CALL)
  expect(await ticket.result()).toEqual({
    status: 200,
    output: { choices: [{ message: { content: 'hi' } }], usage: USAGE },
    usage: { inputTokens: 11, outputTokens: 22 },
  })
  await until('the estimate is settled', async () => (await used(tollgate)) === 33)
  expect(agent.requests).toHaveLength(1)
  expect(agent.requests[0]).toMatchObject({ method: 'POST', url: '/v1/chat/completions' })
  expect(agent.requests[0]?.headers).toMatchObject({ 'content-type': 'application/json' })
  expect(agent.requests[0]?.headers['authorization']).toBeUndefined()
  expect(JSON.parse(agent.requests[0]?.body ?? '')).toEqual(CALL.payload)
})

test('429 with Retry-After sends the call back without using an attempt, and it finally succeeds', async () => {
  const agent = await startAgent((response, count) =>
    count <= 2 ? json(response, { error: 'slow down' }, 429, { 'retry-after-ms': '20' }) : json(response, { usage: USAGE }),
  )
  const tollgate = await newNamespace().open({ rules: RULES, attempts: 1 })
  const attempts: number[] = []
  const handler = httpAgent({ openai: { baseUrl: agent.url } }, {})
  tollgate.worker((call, context) => {
    attempts.push(context.attempt)
    return handler(call, context)
  })
  const ticket = await tollgate.enqueue(CALL)
  expect(await ticket.result()).toMatchObject({ status: 200 })
  expect(agent.requests).toHaveLength(3)
  expect(attempts).toEqual([1, 1, 1])
  await until('only the last try is charged', async () => (await used(tollgate)) === 33)
})

test.each([503, 529])('%d sends the call back as 429 does', async (status) => {
  const agent = await startAgent((response, count) => (count === 1 ? json(response, {}, status, { 'retry-after': '0' }) : json(response, {})))
  const tollgate = await newNamespace().open({ rules: RULES, attempts: 1 })
  tollgate.worker(httpAgent({ openai: { baseUrl: agent.url } }, {}))
  expect(await (await tollgate.enqueue(CALL)).result()).toMatchObject({ status: 200 })
  expect(agent.requests).toHaveLength(2)
})

test('a Retry-After in seconds blocks the other calls of that model, for that time', async () => {
  const agent = await startAgent((response) => json(response, {}, 429, { 'retry-after': '3600' }))
  const tollgate = await newNamespace().open({ rules: RULES })
  tollgate.worker(httpAgent({ openai: { baseUrl: agent.url } }, {}))
  const ticket = await tollgate.enqueue(CALL)
  await until('the block is known', async () => !(await tollgate.gate.peek(CALL)).allowed)
  const { limitExceeded, retryAfterMs } = await tollgate.gate.peek(CALL)
  expect(limitExceeded).toBe('~block/retry-after')
  expect(retryAfterMs).toBeGreaterThan(3_500_000)
  expect(retryAfterMs).toBeLessThanOrEqual(3_600_000)
  expect((await tollgate.gate.peek({ ...CALL, model: 'another' })).allowed).toBe(true)
  expect(await used(tollgate), 'a refused call is not charged').toBe(0)
  expect(await tollgate.cancel(ticket.id)).toBe(true)
})

test('500 fails the call with the status quoted when its attempts are used up', async () => {
  const agent = await startAgent((response) => json(response, { error: { message: 'the model fell over' } }, 500))
  const tollgate = await newNamespace().open({ rules: RULES, attempts: 2 })
  tollgate.worker(httpAgent({ openai: { baseUrl: agent.url } }, {}))
  const error = await failure((await tollgate.enqueue(CALL)).result())
  expect([error.code, error.retryable]).toEqual(['UPSTREAM_FAILED', true])
  expect(error.message).toBe('openai answered 500: {"error":{"message":"the model fell over"}}')
  expect(agent.requests).toHaveLength(2)
  await untilSettled(tollgate)
  expect(await used(tollgate), 'both tries reached the agent').toBe(10_000)
})

test('a long error is quoted in part', async () => {
  const agent = await startAgent((response) => response.writeHead(400).end('x'.repeat(100_000)))
  const tollgate = await newNamespace().open({ rules: RULES })
  tollgate.worker(httpAgent({ openai: { baseUrl: agent.url } }, {}))
  const error = await failure((await tollgate.enqueue(CALL)).result())
  expect(error.message).toMatch(/^openai answered 400: x{500}$/)
})

test('an error with a usage settles the estimate by it', async () => {
  const agent = await startAgent((response) => json(response, { usage: USAGE }, 500))
  const tollgate = await newNamespace().open({ rules: RULES })
  tollgate.worker(httpAgent({ openai: { baseUrl: agent.url } }, {}))
  await failure((await tollgate.enqueue(CALL)).result())
  await until('the estimate is settled', async () => (await used(tollgate)) === 33)
})

test.each(['{"usage": {"prompt_tokens": 11,', '', 'plain text', '[1, 2'])('an answer that is no JSON is its text, and the estimate stays: %j', async (text) => {
  const agent = await startAgent((response) => response.writeHead(200).end(text))
  const tollgate = await newNamespace().open({ rules: RULES })
  tollgate.worker(httpAgent({ openai: { baseUrl: agent.url } }, {}))
  expect(await (await tollgate.enqueue(CALL)).result()).toEqual({ status: 200, output: text })
  await untilSettled(tollgate)
  expect(await used(tollgate)).toBe(5000)
})

test('an agent that hangs up fails the call', async () => {
  const agent = await startAgent((response) => response.destroy())
  const tollgate = await newNamespace().open({ rules: RULES })
  tollgate.worker(httpAgent({ openai: { baseUrl: agent.url } }, {}))
  const error = await failure((await tollgate.enqueue(CALL)).result())
  expect(error.code).toBe('CALL_FAILED')
  expect(agent.requests).toHaveLength(1)
  await untilSettled(tollgate)
  expect(await used(tollgate)).toBe(5000)
})

test('the key of the environment is sent as each API wants it', async () => {
  const agent = await startAgent((response) => json(response, {}))
  const { agents } = parseRules(
    `rules: []\nagents:\n  openai: { baseUrl: "${agent.url}", apiKeyEnv: ONE_KEY }\n  claude: { baseUrl: "${agent.url}", apiKeyEnv: OTHER_KEY, api: anthropic }\n`,
    'agents.yaml',
  )
  const tollgate = await newNamespace().open()
  tollgate.worker(httpAgent(agents, { ONE_KEY: 'sk-one\n', OTHER_KEY: 'sk-other' }))
  await (await tollgate.enqueue({ agent: 'openai', payload: {} })).result()
  await (await tollgate.enqueue({ agent: 'claude', payload: {} })).result()
  const [openai, claude] = agent.requests
  expect(openai?.headers['authorization']).toBe('Bearer sk-one')
  expect(openai?.headers['x-api-key']).toBeUndefined()
  expect(claude?.headers).toMatchObject({ 'x-api-key': 'sk-other', 'anthropic-version': '2023-06-01' })
  expect(claude?.headers['authorization']).toBeUndefined()
  expect(claude?.url).toBe('/v1/messages')
})

test('a missing key is a clear error, at once', () => {
  const agents = { openai: { baseUrl: 'https://api.openai.com', apiKeyEnv: 'THE_KEY' } }
  for (const environment of [{}, { THE_KEY: '' }, { THE_KEY: ' \n' }]) {
    expect(() => httpAgent(agents, environment)).toThrow(new ConfigInvalid('agents.openai.apiKeyEnv: THE_KEY is not set in the environment'))
  }
})

test('a key that no header can carry is a clear error that does not show it', () => {
  const agents = { openai: { baseUrl: 'https://api.openai.com', apiKeyEnv: 'THE_KEY' } }
  for (const key of ['hunter2\nhunter2', 'hunter2 hunter2', 'hunter2é']) {
    expect(() => httpAgent(agents, { THE_KEY: key })).toThrow(/^agents\.openai\.apiKeyEnv: THE_KEY holds characters that a key cannot have/)
    expect(() => httpAgent(agents, { THE_KEY: key })).not.toThrow(/hunter2/)
  }
})

test('no endpoint and no redirect takes the key to another host', async () => {
  const other = await startAgent((response) => json(response, {}))
  const agent = await startAgent((response, count) =>
    count <= 3 ? json(response, {}) : response.writeHead(307, { location: `${other.url}/steal` }).end('moved'),
  )
  const tollgate = await newNamespace().open()
  tollgate.worker(httpAgent({ openai: { baseUrl: `${agent.url}/base`, apiKeyEnv: 'A_KEY', api: 'anthropic' } }, { A_KEY: 'sk' }))
  const host = new URL(other.url).host
  for (const endpoint of [`@${host}/steal`, 'v1/x', `//${host}/steal`]) await (await tollgate.enqueue({ agent: 'openai', endpoint })).result()
  expect(agent.requests.map(({ url }) => url)).toEqual([`/base/@${host}/steal`, '/base/v1/x', `/base/${host}/steal`])
  const error = await failure((await tollgate.enqueue({ agent: 'openai' })).result())
  expect(error.message).toBe('openai answered 307: moved')
  expect(other.requests).toEqual([])
})

test.each(['unknown', '__proto__', 'constructor'])(
  'a call to the agent %s, which is not configured, fails for good, naming the configured agents',
  async (agent) => {
    const tollgate = await newNamespace().open({ attempts: 5 })
    const attempts: number[] = []
    const handler = httpAgent({ openai: { baseUrl: 'http://127.0.0.1:1' }, claude: { baseUrl: 'http://127.0.0.1:1' } }, {})
    tollgate.worker((call, context) => {
      attempts.push(context.attempt)
      return handler(call, context)
    })
    const error = await failure((await tollgate.enqueue({ agent })).result())
    expect(attempts).toEqual([1])
    expect(error.code).toBe('CONFIG_INVALID')
    expect(error.message).toContain(`agent ${agent} is not among the configured ones (openai, claude)`)
  },
)

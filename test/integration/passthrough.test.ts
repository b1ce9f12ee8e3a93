import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { RuleSpec } from '../../src/index.js'
import { type AgentRequest, json, startAgent } from '../support/http-agent.js'
import { newNamespace } from '../support/namespace.js'
import { startSampleAgent } from '../support/sample-agent.js'
import { startServer, type TestServer, type TestServerOptions } from '../support/server.js'
import { until } from '../support/until.js'

const KEY = 'the-secret-key-of-the-agent'
const PATH = '/agents/llm/v1/chat/completions'
const BODY = { model: 'm', max_tokens: 5, messages: [{ role: 'user', content: 'words that nobody else may read' }] }
const SLOT: RuleSpec = { name: 'slot', scope: 'agent', limits: [{ concurrency: 1 }] }
const JSON_TYPE = { 'content-type': 'application/json' }

type AgentAnswerer = (response: Parameters<Parameters<typeof startAgent>[0]>[0], count: number, request: AgentRequest) => void

/** A server before an agent of the test. */
async function serveAgent(answer: AgentAnswerer, options: TestServerOptions = {}): Promise<TestServer & { requests: readonly AgentRequest[] }> {
  const agent = await startAgent(answer)
  const server = await startServer(newNamespace(), {
    agents: { llm: { baseUrl: `${agent.url}/base`, apiKeyEnv: 'LLM_KEY' } },
    environment: { LLM_KEY: KEY },
    ...options,
  })
  return { ...server, requests: agent.requests }
}

async function post(
  { url }: TestServer,
  headers: Record<string, string> = {},
  body: unknown = BODY,
  path = PATH,
): Promise<{ status: number; headers: Headers; text: string }> {
  const response = await fetch(url + path, { method: 'POST', headers: { ...JSON_TYPE, ...headers }, body: JSON.stringify(body) })
  return { status: response.status, headers: response.headers, text: await response.text() }
}

test('the agent gets its own key and no header of the connection, and its client no cookie of it', async () => {
  const server = await serveAgent((response) =>
    json(response, { ok: true }, 200, { 'set-cookie': 'a=b', 'x-request-id': 'r1', 'keep-alive': 'timeout=1', 'x-hop': 'yes', connection: 'x-hop' }),
  )
  const headers = {
    authorization: 'Bearer none',
    'x-api-key': 'none',
    cookie: 'c=d',
    'x-forwarded-for': '1.2.3.4',
    'x-tollgate-user': 'root',
    'openai-beta': 'assistants=v2',
  }
  const answer = await post(server, headers)
  expect([answer.status, answer.text]).toEqual([200, '{"ok":true}'])
  expect(answer.headers.get('x-request-id')).toBe('r1')
  for (const name of ['set-cookie', 'x-hop']) expect(answer.headers.get(name), name).toBeNull()
  expect(answer.headers.get('keep-alive')).not.toBe('timeout=1')
  const [sent] = server.requests
  expect(sent).toMatchObject({
    method: 'POST',
    url: '/base/v1/chat/completions',
    headers: { authorization: `Bearer ${KEY}`, 'openai-beta': 'assistants=v2', 'accept-encoding': 'identity' },
  })
  for (const name of ['x-api-key', 'cookie', 'x-forwarded-for', 'x-tollgate-user']) expect(sent?.headers[name], name).toBeUndefined()
  expect(JSON.parse(sent?.body ?? '')).toEqual(BODY)
})

test("the agent's key is taken out of its errors, and TRACE, which could be answered with it, is not passed on", async () => {
  const server = await serveAgent((response, _count, { headers }) =>
    json(response, { error: { message: `Incorrect API key provided: ${headers.authorization}` } }, 401),
  )
  const answer = await post(server)
  expect([answer.status, answer.text]).toEqual([401, '{"error":{"message":"Incorrect API key provided: Bearer (key)"}}'])
  const { port } = new URL(server.url)
  const traced = httpRequest({ port, host: '127.0.0.1', path: PATH, method: 'TRACE' }).end()
  const [response] = await once(traced, 'response')
  response.resume()
  expect(response.statusCode).toBe(404)
  expect(server.requests).toHaveLength(1)
})

test('a path cannot leave the base of its agent, a redirect is not followed, and other agents are unknown', async () => {
  const elsewhere = await startAgent((response) => response.end('stolen'))
  const server = await serveAgent((response) => response.writeHead(302, { location: elsewhere.url }).end())
  const { port } = new URL(server.url)
  const raw = async (path: string) => {
    const sent = httpRequest({ port, host: '127.0.0.1', path, method: 'POST', headers: JSON_TYPE }).end(JSON.stringify(BODY))
    const [response] = await once(sent, 'response')
    response.resume()
    return response.statusCode as number
  }
  const attacks = [
    '/../x',
    '/v1/../../x',
    '/v1/%2e%2e/x',
    '/%2e%2e%2fx',
    '/v1/..%5cx',
    '//evil.example/x',
    '/v1//x',
    '/v1/%00',
    '/v1/%0d%0aX: y',
    '/v1\\x',
    '/./x',
    '/%',
    '/v1/%252e%252e/x',
    '/@evil.example:80/',
    '/v1/x?a= b'.replace(' ', '%20'),
    '/v1/models?x=\u00ff',
  ]
  for (const path of attacks) {
    const status = await raw(`/agents/llm${path}`).catch(() => 400)
    if (path.startsWith('/@') || path.includes('%20')) continue
    expect([400, 404], path).toContain(status)
  }
  for (const { url } of server.requests) expect(url).toMatch(/^\/base\/(@evil\.example:80\/$|v1\/x\?a=%20b$)/)
  expect(await raw('/agents/other/v1/models')).toBe(404)
  expect((await fetch(server.url + PATH, { method: 'POST', headers: JSON_TYPE, body: JSON.stringify(BODY), redirect: 'manual' })).status).toBe(302)
  expect(elsewhere.requests).toHaveLength(0)
})

test('bodies that cannot be metered are refused: compressed, or no JSON at a generating endpoint; others pass', async () => {
  const server = await serveAgent((response) => json(response, {}))
  const send = async (path: string, body: string, headers: Record<string, string>) => (await fetch(server.url + path, { method: 'POST', body, headers })).status
  expect(await send(PATH, 'x', { ...JSON_TYPE, 'content-encoding': 'gzip' })).toBe(415)
  expect(await send(PATH, '[1]', JSON_TYPE)).toBe(400)
  expect(await send(`${PATH}/`, '{', { 'content-type': 'text/plain' })).toBe(400)
  expect(await send('/agents/llm/v1/files', 'any bytes', { 'content-type': 'multipart/form-data; boundary=x' })).toBe(200)
  expect(server.requests[0]?.body).toBe('any bytes')
})

test('every endpoint of the agent is counted, whatever it is called', async () => {
  const tokens: RuleSpec = {
    name: 'r',
    scope: 'agent',
    limits: [
      { requests: 100, per: 'day', algorithm: 'fixed_window' },
      { tokens: 100_000, per: 'day', algorithm: 'fixed_window' },
    ],
  }
  const server = await serveAgent((response) => json(response, { usage: { prompt_tokens: 10, completion_tokens: 5 } }), { open: { rules: [tokens] } })
  for (const path of ['/v1/chat/completions', '/V1/Chat/Completions/', '/v1/responses', '/v1/messages', '/v1/brand_new'])
    expect((await post(server, {}, { ...BODY, input: 'x' }, `/agents/llm${path}`)).status).toBe(200)
  await fetch(`${server.url}/agents/llm/v1/models`)
  const usage = async () => (await server.tollgate.gate.peek({ agent: 'llm', cost: { requests: 0, tokens: 0 } })).usage.map(({ used }) => used)
  await until('all are settled', async () => (await usage())[1] === 90)
  expect(await usage()).toEqual([6, 90])
})

test('a retry with the same idempotency key joins its call, is answered again for a while, and is charged once', async () => {
  let release = () => {}
  const server = await serveAgent(
    (response, count) => {
      if (count > 1) return json(response, { count })
      release = () => json(response, { count })
    },
    { open: { rules: [{ name: 'r', scope: 'agent', limits: [{ requests: 100, per: 'day', algorithm: 'fixed_window' }] }] } },
  )
  const first = new AbortController()
  const leaving = fetch(server.url + PATH, {
    method: 'POST',
    headers: { ...JSON_TYPE, 'idempotency-key': 'k' },
    body: JSON.stringify(BODY),
    signal: first.signal,
  }).catch(() => 'gone')
  await until('it is at the agent', () => server.requests.length === 1)
  first.abort()
  expect(await leaving).toBe('gone')
  const [again, quoted] = [post(server, { 'idempotency-key': 'k' }), post(server, { 'idempotency-key': '"k"' })]
  await sleep(50)
  release()
  expect((await again).text).toBe('{"count":1}')
  expect((await quoted).text).toBe('{"count":1}')
  expect(await post(server, { 'idempotency-key': 'k' })).toMatchObject({ status: 200, text: '{"count":1}' })
  expect(await post(server, { 'idempotency-key': 'k' }, { ...BODY, model: 'other' })).toMatchObject({ status: 400 })
  expect((await post(server, { 'idempotency-key': 'another' })).text).toBe('{"count":2}')
  expect((await server.tollgate.gate.peek({ agent: 'llm', cost: { requests: 0 } })).usage[0]?.used).toBe(2)
})

test('issued keys say whose calls they are, for which agents, until when, and join no other client', async () => {
  const perUser: RuleSpec = { name: 'user', scope: 'user', strategy: 'hard', limits: [{ requests: 1, per: 'day', algorithm: 'fixed_window' }] }
  const admin = 'administrator-key-0123456789'
  const server = await serveAgent((response, count) => json(response, { count }), {
    open: { rules: [perUser] },
    settings: { adminKeys: [admin], proxySecret: 'secret-of-the-proxy' },
  })
  const as = (key: string) => ({ authorization: `Bearer ${key}` })
  const create = async (spec: object) => (await server.send('POST', '/v1/keys', spec, as(admin))).json as { id: string; key: string }
  expect(await server.send('POST', '/v1/keys', {}, as(admin))).toMatchObject({ status: 400, json: { code: 'REQUEST_INVALID' } })
  const [ann, bob, other, ended] = [
    await create({ org: 'acme', user: 'ann' }),
    await create({ user: 'bob' }),
    await create({ user: 'c', agents: ['other'] }),
    await create({ user: 'd', until: '2020-01-01' }),
  ]
  expect((await post(server)).status).toBe(401)
  expect((await post(server, as('tg_wrong'))).status).toBe(401)
  expect((await post(server, as(ended.key))).status).toBe(401)
  expect((await post(server, as(other.key))).status).toBe(403)
  expect(await post(server, { ...as(ann.key), 'idempotency-key': 'k' })).toMatchObject({ status: 200, text: '{"count":1}' })
  expect(await post(server, { 'x-api-key': bob.key, 'idempotency-key': 'k' })).toMatchObject({ status: 200, text: '{"count":2}' })
  expect((await post(server, as(ann.key))).status).toBe(429)
  expect((await post(server, { ...as(admin), 'x-tollgate-user': 'ann' })).status).toBe(200)
  expect((await post(server, { 'x-tollgate-secret': 'secret-of-the-proxy', 'x-tollgate-user': 'bob' })).status).toBe(429)
  expect((await post(server, { 'x-tollgate-secret': 'wrong', 'x-tollgate-user': 'eve' })).status).toBe(401)
  expect((await server.send('DELETE', `/v1/keys/${bob.id}`, undefined, as(admin))).json).toEqual({ id: bob.id, revoked: true })
  await until('it is revoked', async () => (await post(server, as(bob.key))).status === 401)
  const audit = (await server.send('GET', '/v1/audit?what=key.revoked', undefined, as(admin))).json as unknown[]
  expect(audit).toMatchObject([{ subject: bob.id, before: { user: 'bob', revokedAt: null } }])
  const listed = JSON.stringify((await server.send('GET', '/v1/keys', undefined, as(admin))).json)
  for (const { key } of [ann, bob, other]) {
    expect(listed + JSON.stringify(audit) + server.logged.join('')).not.toContain(key.slice(4))
  }
})

test('a call that waits is seen by explain, is held by a pause, and is cancelled by an administrator', async () => {
  let end = () => {}
  const server = await serveAgent(
    (response, count) => {
      if (count > 1) return json(response, { count })
      end = () => json(response, { count })
    },
    { open: { rules: [SLOT] } },
  )
  const first = post(server)
  await until('it runs', () => server.requests.length === 1)
  const waiting = post(server, {}, { ...BODY, stream: true })
  const held = async () => (await server.tollgate.gate.peek({ agent: 'llm' })).allowed === false
  await until('there is no room', held)
  let id = ''
  await until('it waits', async () => {
    const found = await newestHeld(server)
    id = found ?? ''
    return found !== undefined && ((await server.send('GET', `/v1/calls/${found}`)).json as { state: string }).state === 'waiting'
  })
  expect((await server.send('DELETE', `/v1/calls/${id}`)).json).toEqual({ id, cancelled: true })
  const { text } = await waiting
  expect(text).toContain('call_cancelled')
  await server.send('POST', '/v1/pauses', { for: { agent: 'llm' } })
  const paused = post(server)
  end()
  expect((await first).status).toBe(200)
  await sleep(200)
  expect(server.requests).toHaveLength(1)
  await server.send('DELETE', '/v1/pauses?agent=llm')
  expect((await paused).text).toBe('{"count":2}')
})

/** The id of a held call that waits or runs, as the name of its record says. */
async function newestHeld({ namespace }: TestServer): Promise<string | undefined> {
  const records = (await namespace.allKeys()).filter((key) => key.startsWith(namespace.keys.call('held-')))
  return records.map((key) => key.split('/').at(-1)).find((id) => id?.startsWith('held-'))
}

test('failures of the agent are passed on as they are, after the configured attempts', async () => {
  const failing = await serveAgent((response, count) => json(response, { error: { message: `broken ${count}` } }, 500), {
    settings: { attempts: 2 },
    open: { attempts: 2 },
  })
  expect(await post(failing)).toMatchObject({ status: 500, text: '{"error":{"message":"broken 2"}}' })
  const cut = await serveAgent((response) => response.destroy())
  expect(await post(cut)).toMatchObject({ status: 502 })
  const wrong = await serveAgent((response) => json(response, { error: { message: 'no such model' } }, 404))
  expect(await post(wrong)).toMatchObject({ status: 404, text: '{"error":{"message":"no such model"}}' })
})

test('a 429 that waiting does not mend is passed on in the words of the agent, and costs no tokens', async () => {
  const server = await serveAgent((response) => json(response, { error: { message: 'You exceeded your quota', code: 'insufficient_quota' } }, 429))
  const answer = await post(server)
  expect([answer.status, JSON.parse(answer.text).error.code]).toEqual([429, 'insufficient_quota'])
  expect(server.requests).toHaveLength(1)
})

test('chunks pass as they come, and a client that takes nothing is cut off without holding the answer in memory', async () => {
  let step = () => {}
  const chunked = await serveAgent((response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write('data: {"choices":[{"delta":{"content":"one"}}]}\n\n')
    step = () => response.end('data: [DONE]\n\n')
  })
  const response = await fetch(chunked.url + PATH, { method: 'POST', headers: JSON_TYPE, body: JSON.stringify({ ...BODY, stream: true }) })
  const reader = response.body?.getReader()
  expect(Buffer.from((await reader?.read())?.value ?? []).toString()).toContain('"one"')
  step()
  expect(Buffer.from((await reader?.read())?.value ?? []).toString()).toContain('[DONE]')

  let written = 0
  let cut = false
  const endless = await serveAgent(
    (agentResponse) => {
      agentResponse.writeHead(200, { 'content-type': 'text/event-stream' })
      const more = () => {
        while (!agentResponse.destroyed && agentResponse.write(`data: {"choices":[{"delta":{"content":"${'x'.repeat(16_000)}"}}]}\n\n`)) written += 16_000
      }
      agentResponse.on('drain', more).on('close', () => {
        cut = true
      })
      more()
    },
    { settings: { stallMs: 1000 } },
  )
  const { port } = new URL(endless.url)
  const lazy = httpRequest({ port, host: '127.0.0.1', path: PATH, method: 'POST', headers: JSON_TYPE }).end(JSON.stringify({ ...BODY, stream: true }))
  lazy.on('error', () => {})
  const [answer] = await once(lazy, 'response')
  answer.on('error', () => {})
  answer.pause()
  await until('the agent is cut off', () => cut)
  lazy.destroy()
  // What sockets hold, and nothing besides.
  expect(written).toBeLessThan(64_000_000)
})

test('no secret, and no word of a body, is in Redis, the log or an answer', async () => {
  const server = await serveAgent(
    (response) => json(response, { choices: [{ message: { content: 'words of the answer' } }], usage: { prompt_tokens: 1, completion_tokens: 1 } }),
    { open: { rules: [SLOT] } },
  )
  const answers = await Promise.all(Array.from({ length: 20 }, () => post(server, { authorization: 'Bearer client-own-key-0123' })))
  for (const { status, headers, text } of answers) {
    expect(status).toBe(200)
    expect(JSON.stringify([...headers]) + text).not.toContain(KEY)
  }
  let stored = ''
  for (const key of await server.namespace.allKeys()) stored += key + ((await server.namespace.redis.dumpBuffer(key))?.toString('latin1') ?? '')
  expect(stored.length).toBeGreaterThan(0)
  for (const secret of [KEY, 'client-own-key', 'words that', 'words of the answer']) {
    expect(stored, secret).not.toContain(secret)
    expect(server.logged.join('\n'), secret).not.toContain(secret)
  }
})

/** The tokens and slots of the namespace as they stand. */
async function ledger({ tollgate }: TestServer): Promise<Record<string, number>> {
  const { usage } = await tollgate.gate.peek({ agent: 'llm', cost: { requests: 0, tokens: 0 } })
  return Object.fromEntries(usage.map(({ unit, used }) => [unit, used]))
}

test('a client that hangs up at any of 20 points leaves an exact ledger: nothing while it waits, what was seen once it runs', async () => {
  const { url, agent } = await startSampleAgent({ latencyMs: 400 })
  const rules: RuleSpec[] = [
    SLOT,
    {
      name: 'r',
      scope: 'agent',
      limits: [
        { requests: 1000, per: 'day', algorithm: 'fixed_window' },
        { tokens: 1e6, per: 'day', algorithm: 'fixed_window' },
      ],
    },
  ]
  const server = await startServer(newNamespace(), { agents: { llm: { baseUrl: url } }, open: { rules } })
  const replay = { replay_usage: { prompt_tokens: 10, completion_tokens: 20 } }
  let requests = 0
  for (let point = 0; point < 20; point++) {
    const aborter = new AbortController()
    const before = await ledger(server)
    const blocker = point < 5 ? post(server, {}, { ...BODY, ...replay }) : undefined
    if (blocker !== undefined) await until('it runs', async () => (await ledger(server))['concurrency'] === 1)
    const running = fetch(server.url + PATH, {
      method: 'POST',
      headers: JSON_TYPE,
      body: JSON.stringify({ ...BODY, ...replay, stream: point % 2 === 0 }),
      signal: aborter.signal,
    })
    const seen = running
      .then(async (response) => {
        let text = ''
        for await (const chunk of response.body ?? []) text += Buffer.from(chunk).toString()
        return text
      })
      .catch(() => 'gone')
    await sleep(point < 5 ? 10 + point * 60 : (point - 5) * 30)
    aborter.abort()
    await seen
    await blocker
    await until('its slot is free', async () => (await ledger(server))['concurrency'] === 0)
    await until('it is settled', async () => (await server.tollgate.stats.ledger()) !== undefined && server.server.held === 0)
    await sleep(60)
    const after = await ledger(server)
    const own = (after['tokens'] ?? 0) - (before['tokens'] ?? 0) - (blocker === undefined ? 0 : 30)
    const ownRequests = (after['requests'] ?? 0) - (before['requests'] ?? 0) - (blocker === undefined ? 0 : 1)
    requests += ownRequests
    if (ownRequests === 0) expect(own, `point ${point}`).toBe(0)
    else {
      // Its input at least; at most what the agent has answered.
      expect(own, `point ${point}`).toBeGreaterThan(0)
      expect(own, `point ${point}`).toBeLessThanOrEqual(45)
    }
  }
  expect(requests).toBeGreaterThan(5)
  expect(agent.counters.requests).toBeGreaterThanOrEqual(5)
  const line = await server.tollgate.gate.peek({ agent: 'llm' })
  expect(line.allowed).toBe(true)
})

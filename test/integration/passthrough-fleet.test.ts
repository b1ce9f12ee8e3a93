import { expect, test } from 'vitest'
import type { RuleSpec } from '../../src/index.js'
import { json, startAgent } from '../support/http-agent.js'
import { newNamespace } from '../support/namespace.js'
import { startServer, type TestServer } from '../support/server.js'
import { until } from '../support/until.js'

const PATH = '/agents/llm/v1/chat/completions'
const BODY = { model: 'm', max_tokens: 5, messages: [{ role: 'user', content: 'words that no other may read' }] }
const DAILY: RuleSpec = { name: 'r', scope: 'agent', limits: [{ requests: 100, per: 'day', algorithm: 'fixed_window' }] }
const PROXY = 'the-secret-of-the-proxy'

/** Two servers of one namespace, before an agent that answers when it is told to. */
async function twoServers() {
  const answers: (() => void)[] = []
  const agent = await startAgent((response, count) => answers.push(() => json(response, { count })))
  const namespace = newNamespace()
  const options = { agents: { llm: { baseUrl: agent.url } }, open: { rules: [DAILY] }, settings: { proxySecret: PROXY } }
  const [one, other] = [await startServer(namespace, options), await startServer(namespace, options)]
  const used = async () => (await one.tollgate.gate.peek({ agent: 'llm', cost: { requests: 0 } })).usage[0]?.used
  return { agent, answers, namespace, one, other, used }
}

const post = ({ send }: TestServer, key: string, { user = 'u', body = BODY as unknown } = {}) =>
  send('POST', PATH, body, { 'idempotency-key': key, 'x-tollgate-secret': PROXY, 'x-tollgate-user': user })

test('the retry of a call at another server joins it, is answered again for a while, and is charged once', async () => {
  const { agent, answers, namespace, one, other, used } = await twoServers()
  const first = post(one, 'k')
  await until('it is at the agent', () => answers.length === 1)
  const again = post(other, '"k"')
  await until('both are held', () => one.server.held === 2 && other.server.held === 1)
  answers[0]?.()
  expect([await first, await again].map(({ status, json: body }) => [status, body])).toEqual([
    [200, { count: 1 }],
    [200, { count: 1 }],
  ])
  expect((await post(other, 'k')).json).toEqual({ count: 1 })
  expect((await post(other, 'k', { body: { ...BODY, model: 'x' } })).status).toBe(400)
  expect([agent.requests.length, await used()]).toEqual([1, 1])
  const stored = await Promise.all((await namespace.allKeys()).map((name) => namespace.redis.dump(name)))
  expect(stored.join()).not.toContain('words that no other may read')
})

test('requests that come to two servers at once make one call; those of another client, or under another key, make their own', async () => {
  const { agent, answers, one, other } = await twoServers()
  const same = Array.from({ length: 10 }, (_, n) => post(n % 2 === 0 ? one : other, 'k'))
  const others = [post(other, 'k', { user: 'v' }), post(one, 'l')]
  await until('all are held', () => answers.length === 3 && one.server.held + other.server.held >= 12)
  for (const answer of answers) answer()
  const counts = (await Promise.all(same)).map(({ json: body }) => (body as { count: number }).count)
  expect(new Set(counts).size).toBe(1)
  await Promise.all(others)
  expect(agent.requests).toHaveLength(3)
})

test('a call whose server is gone is made anew by the next one, and a made-up token joins nothing', async () => {
  const { agent, answers, namespace, one, other } = await twoServers()
  const first = post(one, 'k')
  await until('it is at the agent', () => answers.length === 1)
  answers[0]?.()
  await first
  const [note = ''] = (await namespace.allKeys()).filter((name) => name.includes('/j/'))
  const [token, address] = ((await namespace.redis.get(note)) ?? '').split(' ')
  expect(address).toBe(one.url)
  // A process that was killed leaves its note: here one that no server has written.
  await namespace.redis.set(note, `${token} http://127.0.0.1:1`, 'KEEPTTL')
  const again = post(other, 'k')
  await until('it is at the agent again', () => answers.length === 2)
  answers[1]?.()
  expect((await again).json).toEqual({ count: 2 })
  expect(agent.requests).toHaveLength(2)
  expect(await namespace.redis.get(note)).toContain(other.url)
  expect(await namespace.redis.pttl(note)).toBeLessThanOrEqual(60_000)
  const madeUp = await one.send('POST', PATH, BODY, { 'x-tollgate-join': '0'.repeat(32) })
  expect([madeUp.status, madeUp.headers.get('x-tollgate-join')]).toEqual([404, 'unknown'])
})

test('a stream that two servers pass on reaches both clients as it comes, and one that leaves does not end it for the other', async () => {
  const parts: ((text: string | null) => void)[] = []
  const agent = await startAgent((response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.flushHeaders()
    parts.push((text) => (text === null ? response.end() : response.write(`data: {"text":"${text}"}\n\n`)))
  })
  const namespace = newNamespace()
  const [one, other] = [
    await startServer(namespace, { agents: { llm: { baseUrl: agent.url } }, open: { rules: [DAILY] } }),
    await startServer(namespace, { agents: { llm: { baseUrl: agent.url } }, open: { rules: [DAILY] } }),
  ]
  const stream = (server: TestServer, signal?: AbortSignal) =>
    fetch(server.url + PATH, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'idempotency-key': 'k' },
      body: JSON.stringify({ ...BODY, stream: true }),
      signal: signal ?? null,
    })
  const leaver = new AbortController()
  const first = await stream(one, leaver.signal)
  const second = await stream(other)
  parts[0]?.('early')
  const reader = (second.body as ReadableStream<Uint8Array>).getReader()
  expect(Buffer.from((await reader.read()).value ?? []).toString()).toContain('early')
  leaver.abort()
  await first.text().catch(() => '')
  await until('the first client is gone', () => one.server.held === 1)
  parts[0]?.('late')
  expect(Buffer.from((await reader.read()).value ?? []).toString()).toContain('late')
  parts[0]?.(null)
  expect((await reader.read()).done).toBe(true)
  expect(agent.requests).toHaveLength(1)
})

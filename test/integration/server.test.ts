import { once } from 'node:events'
import { request } from 'node:http'
import { connect } from 'node:net'
import { Validator } from '@seriousme/openapi-schema-validator'
import { expect, test } from 'vitest'
import type { RuleSpec } from '../../src/index.js'
import type { Problem } from '../../src/middleware/problem.js'
import { newNamespace } from '../support/namespace.js'
import { startServer } from '../support/server.js'
import { until } from '../support/until.js'

const HARD: RuleSpec = { name: 'r', scope: 'agent', strategy: 'hard', limits: [{ requests: 1, per: 'day', algorithm: 'fixed_window' }] }
const SLOT = { name: 'slot', scope: 'agent', limits: [{ concurrency: 1 }] }

test('/openapi.json is valid OpenAPI 3.1, and describes every route', async () => {
  const server = await startServer(newNamespace())
  const { json } = await server.send('GET', '/openapi.json')
  const result = await new Validator().validate(json as Record<string, unknown>)
  expect(result.errors).toBeUndefined()
  expect(result.valid).toBe(true)
  const { paths } = json as { paths: Record<string, Record<string, { responses: object }>> }
  expect(Object.keys(paths)).toContain('/v1/calls/{id}/events')
  for (const [path, operations] of Object.entries(paths))
    for (const method of Object.keys(operations)) {
      const url = path.replace(/\{(\w+)\}/g, 'none')
      const { status, json: answer } = await server.send(method.toUpperCase(), url, method === 'get' || method === 'delete' ? undefined : {})
      expect((answer as Problem | undefined)?.code, `${method} ${path}`).not.toBe('ROUTE_UNKNOWN')
      expect(status, `${method} ${path}`).not.toBe(500)
    }
})

test('a call is enqueued, explained, waited for, cancelled, and its events are streamed', async () => {
  const namespace = newNamespace()
  const server = await startServer(namespace, { open: { rules: [SLOT] } })
  let end = () => {}
  const worker = await namespace.open()
  worker.worker(async ({ payload }) => {
    if (payload === 'hold') await new Promise<void>((resolve) => (end = resolve))
    return { echoed: payload }
  })
  const done = await server.send('POST', '/v1/calls?wait=10', { agent: 'a', payload: 1 })
  expect(done).toMatchObject({ status: 200, json: { result: { echoed: 1 } } })
  const preferred = await server.send('POST', '/v1/calls', { agent: 'a', payload: 2 }, { prefer: 'respond-async, wait=10' })
  expect(preferred).toMatchObject({ status: 200, json: { result: { echoed: 2 } } })
  const { id: finished } = done.json as { id: string }
  expect((await server.send('GET', `/v1/calls/${finished}`)).json).toMatchObject({ state: 'done', result: { echoed: 1 } })

  const held = await server.send('POST', '/v1/calls', { agent: 'a', payload: 'hold' })
  expect(held.status).toBe(202)
  const { id } = held.json as { id: string }
  expect(held.headers.get('location')).toBe(`/v1/calls/${id}`)
  expect(Number(held.headers.get('retry-after'))).toBeGreaterThan(0)
  await until('it runs', async () => ((await server.send('GET', `/v1/calls/${id}`)).json as { state: string }).state === 'running')
  const waiting = await server.send('POST', '/v1/calls?wait=0.1', { agent: 'a', id: 'mine' })
  expect(waiting).toMatchObject({ status: 202, json: { id: 'mine', outcome: 'wait', position: 0, binding: { rule: 'slot' } } })
  expect((await server.send('GET', '/v1/calls/mine/explain')).json).toMatchObject({
    state: 'waiting',
    binding: { rule: 'slot' },
    usage: [{ unit: 'concurrency' }],
  })
  expect((await server.send('GET', '/v1/calls?state=waiting&limit=10')).json).toMatchObject({
    calls: [{ id: 'mine', agent: 'a', state: 'waiting', waitsFor: 'CONCURRENCY' }],
    cursor: null,
  })
  expect((await server.send('GET', '/v1/calls?limit=0')).status).toBe(400)
  expect((await server.send('GET', '/v1/lines')).json).toMatchObject({ lines: [{ depth: 1, head: 'mine', waitsFor: 'CONCURRENCY' }], cursor: null })
  expect((await server.send('GET', '/v1/meters/slot?value=a')).json).toMatchObject([{ unit: 'concurrency', used: 1 }])
  expect((await server.send('POST', '/v1/meters/reset', { rule: 'none' })).status).toBe(404)
  expect((await server.send('POST', '/v1/meters/reset', { rule: 'slot', value: 'z' })).json).toEqual({ rule: 'slot', value: 'z' })
  expect((await server.send('POST', '/v1/meters/lift', { agent: 'a' })).json).toEqual({ lifted: false })
  const events = await fetch(`${server.url}/v1/calls/mine/events`)
  expect(events.headers.get('content-type')).toBe('text/event-stream')
  expect((await server.send('DELETE', `/v1/calls/${id}`)).json).toEqual({ id, cancelled: true })
  end()
  const text = await events.text()
  expect(text).toMatch(/^event: waiting\ndata: \{.*"position":0.*\n\n/)
  expect(text).toMatch(/event: done\ndata: .*\n\n$/)
  expect((await server.send('DELETE', '/v1/calls/mine')).json).toEqual({ id: 'mine', cancelled: false })
  const many = await server.send('POST', '/v1/calls?wait=10', [{ agent: 'a', payload: 3 }, { agent: '' }])
  expect(many.json).toMatchObject([{ result: { echoed: 3 } }, { error: { code: 'CALL_INVALID', status: 400 } }])
})

test('refusals are problems of the catalogue, with the types that IANA knows', async () => {
  const server = await startServer(newNamespace(), { open: { rules: [HARD, { ...HARD, name: 's', strategy: 'retry_after', match: { agents: ['b'] } }] } })
  await server.tollgate.gate.admit({ agent: 'a' })
  const refused = await server.send('POST', '/v1/calls', { agent: 'a' })
  expect(refused.headers.get('content-type')).toBe('application/problem+json')
  expect(refused).toMatchObject({
    status: 429,
    json: {
      type: 'https://iana.org/assignments/http-problem-types#quota-exceeded',
      status: 429,
      code: 'RATE_LIMIT_EXCEEDED',
      'violated-policies': ['r/requests/day'],
    },
  })
  await server.send('POST', '/v1/capacity', { agent: 'c', retryAfterMs: 30_000 })
  const blocked = await server.send('POST', '/v1/calls', { agent: 'c', strategy: 'retry_after' })
  expect(blocked).toMatchObject({ status: 503, json: { type: 'https://iana.org/assignments/http-problem-types#temporary-reduced-capacity' } })
  expect(Number(blocked.headers.get('retry-after'))).toBeGreaterThanOrEqual(29)
  expect(await server.send('GET', '/v1/calls/none')).toMatchObject({ status: 404, json: { code: 'CALL_UNKNOWN' } })
  expect(await server.send('GET', '/nowhere')).toMatchObject({ status: 404, json: { code: 'ROUTE_UNKNOWN' } })
})

test('check peeks and admits, with RateLimit headers; what was admitted is settled and released', async () => {
  const tokens = {
    name: 'r',
    scope: 'user',
    strategy: 'hard' as const,
    limits: [
      { requests: 2, per: 'minute', algorithm: 'fixed_window' as const },
      { tokens: 100, per: 'day' },
    ],
  }
  const server = await startServer(newNamespace(), { open: { rules: [tokens] } })
  const call = { agent: 'a', user: 'u', cost: { tokens: 60 } }
  const peeked = await server.send('POST', '/v1/check', { call })
  expect(peeked.json).toMatchObject({ allowed: true, remaining: 2 })
  expect(peeked.headers.get('ratelimit-policy')).toBe('"r/requests/minute";q=2;w=60')
  expect(peeked.headers.get('ratelimit')).toMatch(/^"r\/requests\/minute";r=2$/)
  const admitted = await server.send('POST', '/v1/check', { call, mode: 'admit' })
  const { id } = admitted.json as { id: string }
  expect(admitted.headers.get('x-ratelimit-remaining-tokens')).toBe('40')
  const refused = await server.send('POST', '/v1/check', { call, mode: 'admit' })
  expect(refused.json).toMatchObject({ allowed: false, limitExceeded: 'r/tokens/day' })
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
  expect((await server.send('POST', '/v1/check/settle', { call: { ...call, id }, usage: { tokens: 10 } })).json).toEqual({ id, open: true })
  const second = (await server.send('POST', '/v1/check', { call, mode: 'admit' })).json as { id: string }
  expect((await server.send('POST', '/v1/check/release', { call: { ...call, id: second.id } })).json).toEqual({ id: second.id, open: true })
  const meters = (await server.send('GET', '/v1/meters?agent=a&user=u')).json as { usage: { unit: string; used: number }[] }
  expect(meters.usage.find(({ unit }) => unit === 'tokens')?.used).toBeCloseTo(10, 0)
})

test('rules, overrides, pauses, capacity and the audit, over HTTP', async () => {
  const server = await startServer(newNamespace())
  const ann = { 'x-tollgate-actor': 'ann' }
  expect((await server.send('PUT', '/v1/rules', { rules: [SLOT], prices: { '*': { input: 1, output: 2 } } }, ann)).json).toEqual([SLOT])
  expect(await server.send('POST', '/v1/rules', HARD, ann)).toMatchObject({ status: 201, json: { name: 'r' } })
  expect((await server.send('PATCH', '/v1/rules/r', { priority: 3 })).json).toEqual({ ...HARD, priority: 3 })
  expect((await server.send('GET', '/v1/rules/r')).json).toMatchObject({ priority: 3 })
  expect(await server.send('GET', '/v1/rules/none')).toMatchObject({ status: 404, json: { code: 'RULE_UNKNOWN' } })
  expect(await server.send('POST', '/v1/rules', { name: 'x' })).toMatchObject({
    status: 400,
    json: { code: 'RULES_INVALID', faults: [expect.stringMatching(/^scope/), expect.anything()] },
  })
  const granted = await server.send('POST', '/v1/overrides', { for: { rule: 'r' }, allow: 'unlimited', reason: 'testing', forMs: 60_000 }, ann)
  expect(granted.status).toBe(201)
  const { id } = granted.json as { id: string }
  expect((await server.send('GET', '/v1/overrides')).json).toMatchObject([{ id, by: 'ann' }])
  expect((await server.send('DELETE', `/v1/overrides/${id}`)).json).toEqual({ id, revoked: true })
  expect((await server.send('POST', '/v1/pauses', { for: { agent: 'a' }, reason: 'why' })).json).toEqual({ for: { agent: 'a' }, changed: true })
  expect((await server.send('GET', '/v1/pauses')).json).toMatchObject([{ for: { agent: 'a' } }])
  expect((await server.send('DELETE', '/v1/pauses?agent=a')).json).toEqual({ for: { agent: 'a' }, changed: true })
  expect((await server.send('PUT', '/v1/capacity/openai', { limit: 60, per: 'minute' })).json).toEqual({ name: 'openai' })
  expect((await server.send('GET', '/v1/capacity/openai')).json).toEqual({ limit: 60, per: 'minute', available: 60, inFlight: 0 })
  await server.send('PUT', '/v1/capacity/openai', { limit: null })
  expect((await server.send('GET', '/v1/capacity/openai')).json).toBeNull()
  expect((await server.send('DELETE', '/v1/rules/r')).json).toEqual({ name: 'r', removed: true })
  const audit = (await server.send('GET', '/v1/audit?by=ann&limit=2')).json as { what: string }[]
  expect(audit.map(({ what }) => what)).toEqual(['override.granted', 'rule.added'])
  expect((await server.send('GET', '/v1/stats')).json).toMatchObject({ outage: { away: false } })
})

test('keys: without one nothing but health, a producer changes no rule, and every key is compared', async () => {
  const producer = 'producer-key-0123456789'
  const admin = 'administrator-key-0123456789'
  const server = await startServer(newNamespace(), { settings: { producerKeys: [producer], adminKeys: [admin] } })
  const as = (key: string) => ({ authorization: `Bearer ${key}` })
  const call = { agent: 'a' }
  expect(await server.send('POST', '/v1/check', { call })).toMatchObject({ status: 401, json: { code: 'UNAUTHENTICATED' } })
  expect((await server.send('POST', '/v1/check', { call }, as(`${producer}x`))).status).toBe(401)
  expect((await server.send('POST', '/v1/check', { call }, as(producer))).status).toBe(200)
  expect((await server.send('POST', '/v1/check', { call }, { 'x-api-key': producer })).status).toBe(200)
  expect(await server.send('GET', '/v1/rules', undefined, as(producer))).toMatchObject({ status: 403, json: { code: 'FORBIDDEN' } })
  expect((await server.send('GET', '/v1/rules', undefined, as(admin))).status).toBe(200)
  expect((await server.send('GET', '/healthz')).status).toBe(200)
  for (const line of server.logged) expect(line).not.toContain('key-0123456789')
})

/** Sends a request with any headers, which fetch would not. */
async function rawStatus(url: string, headers: Record<string, string>): Promise<number | undefined> {
  const sent = request(url, { headers, method: 'POST' })
  sent.end('{}')
  const [response] = await once(sent, 'response')
  response.resume()
  return response.statusCode
}

test('requests of pages of other sites are refused, by their host, origin or fetch metadata', async () => {
  const server = await startServer(newNamespace())
  const { host } = new URL(server.url)
  const url = `${server.url}/v1/pauses`
  const json = { 'content-type': 'application/json' }
  expect(await rawStatus(url, json)).toBe(400)
  expect(await rawStatus(url, { ...json, origin: `http://${host}` })).toBe(400)
  for (const headers of [
    { host: 'evil.example' },
    { origin: 'https://evil.example' },
    { origin: 'null' },
    { origin: 'http://' },
    { 'sec-fetch-site': 'cross-site' },
  ])
    expect(await rawStatus(url, { ...json, ...headers }), JSON.stringify(headers)).toBe(403)
})

test('a server that others can reach needs keys', async () => {
  const starting = startServer(newNamespace(), { settings: { host: '0.0.0.0' } })
  await expect(starting).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
})

/** What a socket answers to bytes. */
async function answerTo(url: string, bytes: string): Promise<string> {
  const { port, hostname } = new URL(url)
  const socket = connect(Number(port), hostname)
  socket.write(bytes)
  let text = ''
  socket.on('data', (data) => {
    text += data.toString()
    if (text.includes('\r\n\r\n')) socket.end()
  })
  await once(socket, 'close')
  return text
}

test('bodies, headers and requests out of bounds are refused, and two lengths close the connection', async () => {
  const server = await startServer(newNamespace(), { settings: { maxBodyBytes: 2000, maxHeaderBytes: 4096 } })
  expect(await server.send('POST', '/v1/calls', { agent: 'a', payload: 'x'.repeat(3000) })).toMatchObject({ status: 413, json: { code: 'BODY_TOO_LARGE' } })
  const text = await fetch(`${server.url}/v1/calls`, { method: 'POST', body: 'agent=a', headers: { 'content-type': 'text/plain' } })
  expect([text.status, ((await text.json()) as Problem).code]).toEqual([415, 'MEDIA_TYPE_UNSUPPORTED'])
  const start = `POST /v1/calls HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n`
  expect(await answerTo(server.url, `${start}X-Big: ${'x'.repeat(5000)}\r\n\r\n`)).toMatch(/^HTTP\/1.1 431 /)
  for (const twice of [
    'Content-Length: 5\r\nTransfer-Encoding: chunked',
    'Content-Length: 5\r\nContent-Length: 6',
    'Transfer-Encoding: chunked\r\nTransfer-Encoding: identity',
  ])
    expect(await answerTo(server.url, `${start}${twice}\r\n\r\n0\r\n\r\nGET /v1/rules HTTP/1.1\r\n\r\n`), twice).toMatch(
      /^HTTP\/1.1 400 [\s\S]*Connection: close/,
    )
  const many = await startServer(newNamespace(), { settings: { maxRequestsPerSecond: 3 } })
  const statuses = await Promise.all([1, 2, 3, 4, 5].map(async () => (await many.send('GET', '/healthz')).status))
  expect(statuses.filter((status) => status === 503)).toHaveLength(2)
})

const MALFORMED: unknown[] = [
  ...[
    null,
    1,
    'x',
    true,
    [],
    {},
    [[]],
    [null],
    { agent: 1 },
    { agent: '' },
    { agent: 'a', cost: { tokens: -1 } },
    { agent: 'a', cost: { tokens: '1' } },
    { agent: 'a', id: '7' },
  ],
  ...[
    { agent: 'a', id: 'a:b' },
    { agent: 'a', priority: 0.5 },
    { agent: 'a', deadline: 'soon' },
    { agent: 'a', unknown: 1 },
    { agent: 'a', ip: '1.2.3' },
    { agent: 'a\u0000' },
  ],
  ...[
    { agent: 'a', strategy: 'x' },
    { agent: 'a', keys: { x: 1 } },
    { agent: 'x'.repeat(300) },
    { call: {} },
    { call: null },
    { call: { agent: 'a' }, mode: 'x' },
    { call: [] },
  ],
  ...[
    { rules: {} },
    { rules: [{}] },
    { name: 'r' },
    { name: '', scope: 'agent', limits: [] },
    { for: {} },
    { for: { planet: 'mars' } },
    { for: { agent: 1 } },
    { limit: 'x' },
  ],
  ...[{ for: { user: 'u' }, allow: 'all', reason: 'x' }, { limit: -1, per: 'eon' }, { usage: { tokens: -1 } }, { call: { agent: 'a', id: 'x' }, usage: 5 }],
]
const TEXTS = [
  '',
  '{',
  '{"agent":"a"',
  '[',
  '{"__proto__":{"agent":"a"}}',
  '{"agent":"a","constructor":{"prototype":{}}}',
  '\u0000',
  'NaN',
  '{"a":1e999}',
  `${'['.repeat(5000)}`,
  '\ud800',
  "{'agent':'a'}",
  '{"agent":"a"}x',
]

test('50 malformed requests per route are refused with 4xx, in the form of a problem, and the server lives', async () => {
  const server = await startServer(newNamespace())
  expect(MALFORMED.length + TEXTS.length).toBeGreaterThanOrEqual(50)
  const { json } = await server.send('GET', '/openapi.json')
  const { paths } = json as { paths: Record<string, Record<string, unknown>> }
  for (const [path, operations] of Object.entries(paths)) {
    for (const method of Object.keys(operations).filter((one) => one !== 'get' && one !== 'delete')) {
      for (const body of [...MALFORMED.map((value) => JSON.stringify(value)), ...TEXTS]) {
        const response = await fetch(server.url + path.replace(/\{\w+\}/g, 'none'), {
          method: method.toUpperCase(),
          body,
          headers: { 'content-type': 'application/json' },
        })
        const answer = (await response.json()) as Problem
        // A body of one route may be well-formed for another.
        if (response.status < 300) continue
        expect(
          [response.status >= 400 && response.status < 500, typeof answer.code],
          `${method} ${path} ${body.slice(0, 80)}: ${JSON.stringify(answer)}`,
        ).toEqual([true, 'string'])
      }
    }
    if ('get' in operations)
      for (const odd of ['%00', '%ff', '..%2f..', 'x'.repeat(400), '%', '__proto__', '%F0%9F%98%80', 'a%0d%0ab'])
        if (path.includes('{')) {
          const { status } = await server.send('GET', path.replace(/\{\w+\}/g, odd.replace('%0d%0a', '%250d'))).catch(() => ({ status: 400 }))
          expect(status, `${path} ${odd}`).toBeLessThan(500)
        }
  }
  expect((await server.send('GET', '/healthz')).status).toBe(200)
})

test('a server is ready while Redis answers and its lines are dispatched, and not while it closes', async () => {
  const server = await startServer(newNamespace())
  await until('it is ready', async () => (await server.send('GET', '/readyz')).status === 200)
  const metrics = await fetch(`${server.url}/metrics`)
  expect(await metrics.text()).toContain('tollgate_store_away 0')
})

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { httpAgent, type Tollgate } from '../../src/index.js'
import { blockValue, compileScopeValue } from '../../src/policy/match.js'
import { validateCall } from '../../src/validation/call.js'
import { isPlainEndpoint, normalEndpoint } from '../../src/validation/endpoint.js'
import { startAgent } from '../support/http-agent.js'
import { newNamespace } from '../support/namespace.js'

/** Spellings of one endpoint, as servers read them. */
const SPELLINGS = [
  '/v1/chat/completions',
  'v1/chat/completions',
  '//v1/chat/completions',
  '///v1//chat///completions',
  '/v1/%63hat/completions',
  '/v1/chat/complet%69ons?',
  '/v1/chat/completions#part',
  '/v1/chat/completions?#',
]

test.each(SPELLINGS)('%j is read as /v1/chat/completions', (spelling) => {
  expect(normalEndpoint(spelling)).toBe('/v1/chat/completions')
})

test.each([
  ['?a=b', '/?a=b'],
  ['/x?a=%2e%2e/..&b=c d', '/x?a=../..&b=c%20d'],
  ['@evil.example/x', '/@evil.example/x'],
  ['//evil.example/x', '/evil.example/x'],
  [':80/x', '/:80/x'],
  ['x y', '/x%20y'],
  ['/caf\u00e9', '/caf%C3%A9'],
  ['/caf%c3%a9', '/caf%C3%A9'],
  ['/100%', '/100%25'],
  ['/\u2025/x', '/%E2%80%A5/x'],
  ['/.well-known/x', '/.well-known/x'],
  ['/a..b/...', '/a..b/...'],
  ['/a;b', '/a;b'],
  ['/model/arn%3Aaws%3Abedrock%3Ax%2Fy/converse', '/model/arn:aws:bedrock:x%2Fy/converse'],
  ['/v1/x/', '/v1/x/'],
])('the endpoint %j becomes %j', (given, endpoint) => {
  expect(normalEndpoint(given)).toBe(endpoint)
})

test.each([
  '..',
  '../tenant2',
  '/v1/../x',
  '/v1/./x',
  '/v1/..',
  '/.',
  '/%2e%2e/x',
  '/%2E./x',
  '/%252e%252e/x',
  '/%25252e./x',
  '/a%2f..%2fb',
  '/..;p=1/x',
  '/v1\\chat',
  '\\\\evil.example',
  '/v1%5cchat',
  '/v1%255cchat',
  '/v1%00',
  '/v1%0d%0aHost:x',
  'http://evil.example/x',
  'HTTPS://evil.example',
])('the endpoint %j is refused, whoever sends it', async (endpoint) => {
  expect(normalEndpoint(endpoint)).toBeNull()
  expect(() => validateCall({ agent: 'a', endpoint })).toThrow(/^endpoint: must be a path under the baseUrl of its agent, without dot segments and backslashes/)
  const context = { signal: new AbortController().signal, degraded: false } as Parameters<ReturnType<typeof httpAgent>>[1]
  await expect(httpAgent({ a: { baseUrl: 'http://127.0.0.1:1/base' } }, {})({ agent: 'a', endpoint }, context)).rejects.toMatchObject({ code: 'CALL_INVALID' })
})

test('an endpoint in its one spelling stays as it is, and a URL parser leaves it as it is', () => {
  const part = fc.oneof(fc.string({ unit: 'grapheme' }), fc.constantFrom('/', '//', '.', '..', '%2e', '%2F', '%41', '\\', '?', '#', ';', ':', '@', '%'))
  fc.assert(
    fc.property(fc.array(part, { maxLength: 12 }), (parts) => {
      const endpoint = normalEndpoint(parts.join(''))
      if (endpoint === null) return
      expect(normalEndpoint(endpoint)).toBe(endpoint)
      const url = new URL(`http://host/base${endpoint}`)
      expect(`${url.pathname}${url.search}`).toBe(`/base${endpoint}`)
    }),
    { numRuns: 2000 },
  )
  fc.assert(
    fc.property(fc.stringMatching(/^[/a-z.%2e;?#@:~-]{1,12}$/), (text) => {
      if (isPlainEndpoint(text)) expect(normalEndpoint(text)).toBe(text)
    }),
    { numRuns: 2000 },
  )
})

test('endpoints are matched, counted and blocked by their path, however the rule spells it', () => {
  const value = (globs: string[], endpoint: string) =>
    compileScopeValue({ scope: 'endpoint', match: { endpoints: globs } })(validateCall({ agent: 'a', endpoint }))
  for (const spelling of [...SPELLINGS, '/v1/chat/completions?key=secret'])
    for (const glob of ['/v1/chat/*', 'v1/chat/*', '//v1/%63hat/*', '*completions', '/v1/chat/completion?'])
      expect(value([glob], spelling), `${glob} ${spelling}`).toBe('/v1/chat/completions')
  expect(value(['/v2/*'], '/v1/chat/completions')).toBeNull()
  expect(blockValue({ agent: 'a', endpoint: '/x?key=secret' })).toBe(blockValue({ agent: 'a', endpoint: '/x' }))
})

test('an endpoint that is too long once encoded is refused', () => {
  expect(() => validateCall({ agent: 'a', endpoint: 'é'.repeat(100) })).toThrow(/^endpoint: must have at most 256 characters, percent-encoded/)
})

const PER_ENDPOINT = [{ name: 'ep', scope: 'endpoint', limits: [{ requests: 1, per: 'hour' }] }] as const

async function allowed(tollgate: Tollgate, endpoint?: string): Promise<boolean> {
  return (await tollgate.gate.admit({ agent: 'a', ...(endpoint === undefined ? {} : { endpoint }) })).allowed
}

test('all spellings of an endpoint, and a call that names none, have one meter at the gate', async () => {
  const tollgate = await newNamespace().open({
    rules: [...PER_ENDPOINT].map((rule) => ({ ...rule, limits: [...rule.limits] })),
    endpoints: { a: 'v1/chat/completions' },
  })
  expect(await allowed(tollgate)).toBe(true)
  for (const spelling of [undefined, ...SPELLINGS]) expect(await allowed(tollgate, spelling)).toBe(false)
})

test("the agents of a rules file give the endpoint, and a worker's httpAgent where no rules do", async () => {
  const rules = [...PER_ENDPOINT].map((rule) => ({ ...rule, strategy: 'hard' as const, limits: [...rule.limits] }))
  const agent = await startAgent((response) => response.end('{}'))
  const tollgate = await newNamespace().open({ rules })
  tollgate.worker(httpAgent({ a: { baseUrl: agent.url, api: 'anthropic' } }, {}))
  await (await tollgate.enqueue({ agent: 'a' })).result()
  await expect(tollgate.enqueue({ agent: 'a', endpoint: '//v1/messages' })).rejects.toMatchObject({ code: 'RATE_LIMIT_EXCEEDED' })
  await expect(tollgate.enqueue({ agent: 'a', endpoint: '/v1/../x' })).rejects.toMatchObject({ code: 'CALL_INVALID' })
  expect(agent.requests.map(({ url }) => url)).toEqual(['/v1/messages'])
})

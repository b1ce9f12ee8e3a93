import { expect, test } from 'vitest'
import { type OnStoreError, type RuleSpec, UpstreamLimited } from '../../src/index.js'
import { json, startAgent } from '../support/http-agent.js'
import { ownRedis, untilAway, untilBack } from '../support/outage.js'
import { codeOf } from '../support/place.js'
import { startServer } from '../support/server.js'
import { until } from '../support/until.js'

const PATH = '/agents/llm/v1/chat/completions'
const BODY = { model: 'm', max_tokens: 5, messages: [{ role: 'user', content: 'hello' }] }
const DAILY: RuleSpec = { name: 'daily', scope: 'agent', limits: [{ requests: 20, per: 'day', algorithm: 'fixed_window' }] }

async function serverAwayFromRedis(onStoreError: OnStoreError, rules: RuleSpec[]) {
  const { server: redis, namespace } = await ownRedis()
  const agent = await startAgent((response) => json(response, { usage: { prompt_tokens: 3, completion_tokens: 2 } }))
  const server = await startServer(namespace, {
    agents: { llm: { baseUrl: agent.url } },
    open: { rules, onStoreError, storeTimeoutMs: 200, enqueueTimeoutMs: 500 },
  })
  await redis.kill()
  await untilAway(server.tollgate)
  const used = async () => (await server.tollgate.gate.peek({ agent: 'llm', cost: { requests: 0 } })).usage[0]?.used
  return { ...server, redis, agent, used, post: (headers = {}) => server.send('POST', PATH, BODY, headers) }
}

test('closed: while Redis is away a call through the server is refused at once, with a time to come again', async () => {
  const { post, agent, redis, tollgate } = await serverAwayFromRedis('closed', [DAILY])
  const { status, headers, json: body } = await post()
  expect(status).toBe(503)
  expect(body).toMatchObject({ error: { code: 'store_unavailable' } })
  expect(Number(headers.get('retry-after'))).toBeGreaterThan(0)
  expect(agent.requests).toHaveLength(0)
  await redis.start()
  await untilBack(tollgate)
  expect((await post()).status).toBe(200)
})

test('local: calls go on within the share of the process, the next one waits here, and in line once Redis is back; all are charged', async () => {
  const { post, agent, redis, tollgate, used } = await serverAwayFromRedis('local', [DAILY])
  // A tenth of the limit: what was used before the outage is not known.
  for (let n = 0; n < 2; n++) expect((await post()).status).toBe(200)
  const patient = post()
  expect((await post({ prefer: 'wait=1' })).status).toBe(429)
  expect(agent.requests).toHaveLength(2)
  await redis.start()
  await untilBack(tollgate)
  expect((await patient).status).toBe(200)
  await until('all are charged', async () => (await used()) === 3)
})

test('open: calls go on, and are charged when Redis is back; a rule that is closed refuses its own all the same', async () => {
  const closed: RuleSpec = { ...DAILY, name: 'closed', match: { models: ['dear'] }, onStoreError: 'closed' }
  const { post, send, redis, tollgate, used } = await serverAwayFromRedis('open', [DAILY, closed])
  expect((await post()).status).toBe(200)
  expect((await send('POST', PATH, { ...BODY, model: 'dear' })).status).toBe(503)
  await redis.start()
  await untilBack(tollgate)
  await until('it is charged', async () => (await used()) === 1)
})

test('a call whose strategy is not to wait is refused in an outage, too, and one that waits ends with its process', async () => {
  const { tollgate, post, redis } = await serverAwayFromRedis('local', [DAILY])
  const held = tollgate.hold()
  for (let n = 0; n < 2; n++) expect((await post()).status).toBe(200)
  expect(await codeOf(held.run({ agent: 'llm', strategy: 'hard' }, async () => 1))).toBe('RATE_LIMIT_EXCEEDED')
  let waits = false
  const waiting = codeOf(
    held.run({ agent: 'llm' }, async () => 1, {
      waiting: () => {
        waits = true
      },
    }),
  )
  await until('it waits', () => waits)
  await tollgate.close()
  expect(await waiting).toBe('CLOSED')
  await redis.start()
})

test('a call that waits without Redis leaves when its signal aborts or its deadline passes; one that fails, or that its agent refuses, ends as with Redis', async () => {
  const { tollgate, post, redis } = await serverAwayFromRedis('local', [{ ...DAILY, limits: [{ requests: 20, per: 'day', algorithm: 'fixed_window' }] }])
  const held = tollgate.hold()
  const failing = () => Promise.reject(new TypeError('odd'))
  expect(await codeOf(held.run({ agent: 'llm' }, failing))).toMatch(/odd/)
  let tries = 0
  const refusedOnce = async () => {
    if (++tries === 1) throw new UpstreamLimited({ retryAfterMs: 1 })
    return 'taken'
  }
  expect(await held.run({ agent: 'llm' }, refusedOnce)).toBe('taken')
  expect(tries).toBe(2)
  const aborter = new AbortController()
  const leaves = codeOf(held.run({ agent: 'llm' }, async () => 1, { signal: aborter.signal, waiting: () => aborter.abort(new Error('gone')) }))
  expect(await leaves).toBe('Error: gone')
  expect(await codeOf(held.run({ agent: 'llm', maxWaitMs: 20 }, async () => 1))).toBe('CALL_EXPIRED')
  await until('none is held', () => held.size === 0)
  expect((await post({ prefer: 'wait=0' })).status).toBe(429)
  await redis.start()
  await untilBack(tollgate)
})

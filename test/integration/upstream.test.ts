import { describe, expect, test } from 'vitest'
import { type CallInvalid, ConfigInvalid, GivenClock, httpAgent, type RuleSpec, type UpstreamChange, UpstreamLimited } from '../../src/index.js'
import { startAgent } from '../support/http-agent.js'
import { newNamespace } from '../support/namespace.js'
import { newPlace, PLACES } from '../support/place.js'
import { T0 } from '../support/script-client.js'
import { until } from '../support/until.js'

const RULES: RuleSpec[] = [{ name: 'account', scope: 'agent', limits: [{ requests: 100, per: 'second', burst: 10 }] }]
const NAME = { agent: 'llm', endpoint: '/v1', model: 'm' }

describe.each(PLACES)('in %s', (place) => {
  test('announce blocks one model of an agent for every Tollgate that shares its limits, and sends them news of it', async () => {
    const where = newPlace(place, new GivenClock(T0))
    const one = await where.open({ rules: RULES })
    const other = await where.open({ rules: RULES })
    const heard: UpstreamChange[] = []
    other.capacity.on('change', (change) => heard.push(change))
    expect(await one.capacity.get(NAME)).toEqual({ ...NAME, state: 'open', factor: 1, blockedMs: 0, cutAt: null })
    // The store in memory learns no factor: it only blocks.
    const cut = place === 'memory' ? { factor: 1, cutAt: null } : { factor: 0.5, cutAt: new Date(T0) }
    const state = { ...NAME, state: 'blocked', blockedMs: 2000, ...cut }
    expect(await one.capacity.announce({ ...NAME, retryAfterMs: 2000 })).toMatchObject(state)
    expect(await other.capacity.get(NAME)).toEqual(state)
    expect((await other.gate.admit(NAME)).retryAfterMs).toBe(2001)
    expect((await other.gate.admit({ ...NAME, model: 'another' })).allowed).toBe(true)
    expect((await other.capacity.get({ ...NAME, endpoint: '/v2' })).state).toBe('open')
    await until('the news is heard', () => heard.length > 0)
    expect(heard).toEqual([{ ...state, kind: 'refused' }])
  })

  test('a second, shorter time shortens nothing, and cuts nothing', async () => {
    const tollgate = await newPlace(place, new GivenClock(T0)).open({ rules: RULES })
    await tollgate.capacity.announce({ ...NAME, retryAfterMs: 5000 })
    expect(await tollgate.capacity.announce({ ...NAME, retryAfterMs: 10 })).toMatchObject({ blockedMs: 5000, factor: place === 'memory' ? 1 : 0.5 })
  })

  test('stats.upstream lists observed limits beside those of the rules', async () => {
    const tollgate = await newPlace(place, new GivenClock(T0)).open({ rules: RULES })
    await tollgate.capacity.announce({ ...NAME, limits: { requests: { limit: 50, remaining: 20, resetMs: 1000, windowMs: 60_000 } } })
    expect(await tollgate.stats.upstream()).toEqual([
      {
        ...NAME,
        state: 'open',
        factor: 1,
        blockedMs: 0,
        cutAt: null,
        configured: [{ rule: 'account', limit: 'requests/second', unit: 'requests', amount: 100, windowMs: 1000 }],
        observed: { requests: { limit: 50, remaining: 20, resetMs: 1000, windowMs: 60_000 } },
        observedAt: new Date(T0),
      },
    ])
    expect((await tollgate.gate.admit(NAME)).allowed).toBe(true)
  })

  test('where an agent has no requests left, calls are blocked until about one is refilled', async () => {
    const clock = new GivenClock(T0)
    const tollgate = await newPlace(place, clock).open({ rules: RULES })
    await tollgate.capacity.announce({ ...NAME, limits: { requests: { limit: 10, remaining: 0, resetMs: 5000, windowMs: null } } })
    expect(await tollgate.capacity.get(NAME)).toMatchObject({ state: 'blocked', blockedMs: 500, factor: 1 })
    clock.advance(500)
    expect((await tollgate.gate.admit(NAME)).allowed, 'without a probe').toBe(true)
    expect((await tollgate.gate.admit(NAME)).allowed).toBe(true)
  })

  test('an announcement that is wrong names field and value, and changes nothing', async () => {
    const tollgate = await newPlace(place).open({ rules: RULES })
    const failure = (input: object) => tollgate.capacity.announce(input as never).then(null, (error: CallInvalid) => error.message)
    expect(await failure({ ...NAME, retryAfterMs: -1 })).toMatch(/^retryAfterMs: .*-1/)
    expect(await failure({ ...NAME, retryAfterMs: Number.NaN })).toMatch(/^retryAfterMs: .*NaN/)
    expect(await failure({ agent: '' })).toMatch(/^agent: /)
    expect(await failure({ ...NAME, user: 'u' })).toMatch(/^user: is not a known field/)
    expect(await failure({ ...NAME, limits: { requests: { limit: 0 } } })).toMatch(/^limits.requests.limit: .*0/)
    expect(await failure({ ...NAME, limits: { calls: { limit: 1 } } })).toMatch(/^limits.calls: /)
    expect((await tollgate.capacity.get(NAME)).state).toBe('open')
  })
})

test('the upstream and bus options are checked', async () => {
  const namespace = newNamespace()
  await expect(namespace.open({ upstream: { reduceFactor: 1 } })).rejects.toThrow(/^upstream.reduceFactor: .*\(got 1\)/)
  await expect(namespace.open({ upstream: { recoverFactor: 1 } })).rejects.toThrow(ConfigInvalid)
  await expect(namespace.open({ bus: 'kafka://secret@x' })).rejects.toThrow(/^bus: must be redis, memory or a nats:\/\/.* \(got string\)/)
})

test('processes whose clocks are an hour apart agree on the end of a block', async () => {
  const namespace = newNamespace()
  const realNow = Date.now
  try {
    const one = await namespace.open({ rules: RULES })
    const other = await namespace.open({ rules: RULES })
    Date.now = () => realNow() - 3_600_000
    await one.capacity.announce({ ...NAME, retryAfterMs: 30_000 })
    Date.now = realNow
    const { retryAfterMs } = await other.gate.admit(NAME)
    expect(retryAfterMs).toBeGreaterThan(20_000)
    expect(retryAfterMs).toBeLessThanOrEqual(30_001)
  } finally {
    Date.now = realNow
  }
})

test("after a real agent's 429 one probe goes before the others, all calls finish, and the agent's headers are observed", async () => {
  let running = 0
  let most = 0
  let mostWithProbe = 0
  let refused = 0
  const agent = await startAgent((response, count) => {
    const headers = { 'x-ratelimit-limit-requests': '60', 'x-ratelimit-remaining-requests': '30', 'x-ratelimit-reset-requests': '30s' }
    if (count <= 5) {
      refused++
      response.writeHead(429, { 'retry-after-ms': '300', ...headers }).end('{}')
      return
    }
    // From the arrival of the probe to its end no other call is at the agent.
    running++
    if (count === 6) most = 0
    most = Math.max(most, running)
    setTimeout(
      () => {
        if (count === 6) mostWithProbe = most
        running--
        response.writeHead(200, headers).end('{}')
      },
      count === 6 ? 300 : 5,
    )
  })
  const tollgate = await newNamespace().open({ rules: RULES })
  tollgate.worker(httpAgent({ llm: { baseUrl: agent.url } }, {}), { concurrency: 5 })
  const tickets = await tollgate.enqueueMany(Array.from({ length: 30 }, () => ({ agent: 'llm', payload: {} })))
  await Promise.all(tickets.map((ticket) => ticket.result()))
  expect(refused).toBe(5)
  expect(mostWithProbe).toBe(1)
  expect(agent.requests.length).toBe(35)
  expect(await tollgate.capacity.get({ agent: 'llm' })).toMatchObject({ state: 'recovering', factor: 0.5 })
  expect((await tollgate.stats.upstream())[0]).toMatchObject({ agent: 'llm', observed: { requests: { limit: 60, windowMs: 60_000 } } })
})

test('a custom handler reports headers by context.observe and UpstreamLimited', async () => {
  const tollgate = await newNamespace().open({ rules: RULES })
  tollgate.worker((_, context) => {
    context.observe({ 'anthropic-ratelimit-requests-limit': '40' })
    if (context.attempt > 0 && !refusedOnce) {
      refusedOnce = true
      throw new UpstreamLimited({ headers: { 'retry-after-ms': '30', 'anthropic-ratelimit-requests-limit': '40' } })
    }
    return Promise.resolve('done')
  })
  let refusedOnce = false
  expect(await (await tollgate.enqueue({ agent: 'llm' })).result()).toBe('done')
  expect(await tollgate.stats.upstream()).toMatchObject([{ agent: 'llm', observed: { requests: { limit: 40, remaining: null, windowMs: 60_000 } } }])
})

import { expect, test } from 'vitest'
import { type RuleSpec, UpstreamLimited } from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'
import { until } from '../support/until.js'

const RULES: RuleSpec[] = [
  {
    name: 'account',
    scope: 'agent',
    limits: [
      { requests: 5, per: 'minute' },
      { tokens: 10_000, per: 'minute' },
    ],
  },
  {
    name: 'orgs',
    scope: 'org',
    limits: [
      { requests: 100, per: 'minute' },
      { usd: 10, per: 'day', algorithm: 'fixed_window' },
    ],
  },
]

const sum = (numbers: readonly number[]) => numbers.reduce((total, one) => total + one, 0)

test('arrivals, starts, depth and waits stand in the history of the rule, the agent, the line and the namespace', { timeout: 60_000 }, async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  tollgate.worker(async () => ({ usage: { tokens: 100, usd: 0.5 } }))
  const calls = Array.from({ length: 12 }, (_, n) => ({ agent: 'openai', org: n < 9 ? 'globex' : 'acme', cost: { tokens: 50, usd: 0.25 } }))
  const tickets = await tollgate.enqueueMany(calls)
  await Promise.all(tickets.filter(({ decision }) => decision?.outcome === 'run').map((ticket) => ticket.result()))
  await until('the dispatcher has looked twice', async () => sum((await tollgate.history.rule('account')).map(({ waitingMs }) => waitingMs)) > 0)
  for (const points of [await tollgate.history.namespace(), await tollgate.history.rule('account'), await tollgate.history.agent('openai')]) {
    expect(points).toHaveLength(60)
    expect(sum(points.map(({ arrived }) => arrived))).toBe(12)
    expect(sum(points.map(({ started }) => started))).toBe(5)
    expect(sum(points.map(({ done }) => done))).toBe(5)
    expect(sum(points.map(({ tokens }) => tokens))).toBe(500)
    expect(sum(points.map(({ estimatedTokens }) => estimatedTokens))).toBe(250)
    const now = points.at(-1)
    expect(Math.max(...points.map(({ deepest }) => deepest ?? 0))).toBe(7)
    expect(points.some(({ waitP95Ms }) => waitP95Ms !== null)).toBe(true)
    expect(now?.atMs).toBeGreaterThan(Date.now() - 120_000)
  }
  expect(await tollgate.history.known()).toMatchObject({ agents: ['openai'], lines: ['account/openai'] })
  const line = await tollgate.history.line('account/openai', { step: 'hour' })
  expect(line).toHaveLength(24)
  expect(line.at(-1)).toMatchObject({ deepest: 7, oldestMs: expect.any(Number) })
  const [limited, ...others] = await tollgate.history.limitedBy()
  expect(others).toEqual([])
  expect(limited).toMatchObject({ rule: 'account', limit: 'requests/minute', scopeValue: 'openai', share: 1, calls: 7, shared: true })
  expect(limited?.who).toEqual([
    { org: 'globex', calls: 4 },
    { org: 'acme', calls: 3 },
  ])
  expect(limited?.sinceMs).toBeGreaterThan(Date.now() - 60_000)
  expect(await tollgate.history.now()).toMatchObject({ waiting: 7, lineCount: 1, lines: [{ rule: 'account', depth: 7, limit: 'requests/minute' }] })
  await Promise.all(tickets.map(({ id }) => tollgate.cancel(id)))
})

test('what orgs spend is ranked, with their budgets and when these run out', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  for (const [org, usd] of [
    ['acme', 1],
    ['globex', 8],
  ] as const) {
    const grant = await tollgate.gate.admit({ agent: 'openai', org, model: 'm', cost: { tokens: 10, usd } })
    await grant.settle({ tokens: 30, usd })
  }
  await tollgate.stats.all()
  const [first, second, ...others] = await tollgate.history.spend({ by: 'org' })
  expect(others).toEqual([])
  expect(first).toMatchObject({ name: 'globex', today: 8, month: 8, calls: 1, estimatedTokens: 10, actualTokens: 30, aboveEstimate: 1 })
  expect(first?.budget).toMatchObject({ rule: 'orgs', amount: 10, used: 8, windowMs: 86_400_000 })
  expect(first?.budget?.endsMs).toBeGreaterThan(Date.now())
  expect(first?.days).toHaveLength(30)
  expect(first?.days.at(-1)?.amount).toBe(8)
  expect(second).toMatchObject({ name: 'acme', month: 1 })
  expect((await tollgate.history.spend({ by: 'model', unit: 'tokens' }))[0]).toMatchObject({ name: 'm', month: 60, budget: null })
  await expect(tollgate.history.spend({ by: 'agent' as 'org' })).rejects.toMatchObject({ code: 'REQUEST_INVALID' })
})

test('a call has its life in its job: at most 20 events, its limits at its start, the headers of its agent', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  let tries = 0
  tollgate.worker(async (_call, context) => {
    if (tries++ === 0) throw new UpstreamLimited({ retryAfterMs: 20, headers: { 'Retry-After': '0.02', 'x-ratelimit-limit-requests': '5', cookie: 'no' } })
    context.observe(new Headers({ 'x-ratelimit-limit-requests': '500', 'x-ratelimit-remaining-requests': '499' }))
    await context.settlePart({ tokens: 200 })
    return { usage: { tokens: 240 } }
  })
  const ticket = await tollgate.enqueue({ agent: 'openai', cost: { tokens: 50 }, payload: {} })
  await ticket.result()
  const life = await tollgate.history.call(ticket.id)
  const happened = life.events.map(({ what }) => what)
  expect(happened[0]).toBe('enqueued')
  expect(happened.at(-1)).toBe('done')
  for (const what of ['started', 'returned', 'woken', 'answered', 'part', 'settled']) expect(happened).toContain(what)
  expect(life.events.find(({ what }) => what === 'returned')?.headers).toEqual({ 'retry-after': '0.02', 'x-ratelimit-limit-requests': '5' })
  expect(life).toMatchObject({ id: ticket.id, returns: 1, leftOut: 0, estimate: { tokens: 50 }, actual: { tokens: 240 } })
  expect(life.limits.find(({ limit }) => limit === 'tokens/minute')).toMatchObject({ rule: 'account', scopeValue: 'openai', used: 50, capacity: 10_000 })
  await expect(tollgate.history.call('unknown')).rejects.toMatchObject({ code: 'CALL_UNKNOWN' })
})

test('a call that happens a lot keeps 20 events', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  tollgate.worker(async (_call, context) => {
    for (let n = 1; n <= 40; n++) await context.settlePart({ tokens: 100 * n })
    return {}
  })
  const ticket = await tollgate.enqueue({ agent: 'openai', cost: { tokens: 50 } })
  await ticket.result()
  const { events, leftOut } = await tollgate.history.call(ticket.id)
  expect(events.length).toBe(20)
  expect(leftOut).toBeGreaterThan(20)
})

test('a call that goes from one line to another tells so', async () => {
  const namespace = newNamespace()
  const rules: RuleSpec[] = [
    { name: 'slots', scope: 'agent', match: { agents: ['slow'] }, limits: [{ concurrency: 1 }] },
    { name: 'user', scope: 'user', limits: [{ requests: 1, per: 'hour', burst: 2 }] },
  ]
  const tollgate = await namespace.open({ rules })
  let release = () => {}
  const released = new Promise<void>((resolve) => {
    release = resolve
  })
  tollgate.worker(async ({ user }) => (user === 'first' ? released : undefined))
  const first = await tollgate.enqueue({ agent: 'slow', user: 'first' })
  await until('it has the slot', async () => (await tollgate.explain(first.id)).state === 'running')
  const moves = await tollgate.enqueue({ agent: 'slow', user: 'u' })
  expect((await tollgate.explain(moves.id)).binding?.rule).toBe('slots')
  // Others of its user take what it needs there.
  for (const ticket of await tollgate.enqueueMany([1, 2].map(() => ({ agent: 'fast', user: 'u' })))) await ticket.result()
  release()
  await until('it stands in the other line', async () => (await tollgate.lines()).lines.some(({ line }) => line === 'user/u'))
  const { events } = await tollgate.history.call(moves.id)
  const lines = events.filter(({ what }) => what === 'waiting').map(({ rule, scopeValue, position }) => ({ rule, scopeValue, position }))
  expect(lines).toEqual([
    { rule: 'slots', scopeValue: 'slow', position: 0 },
    { rule: 'user', scopeValue: 'u', position: undefined },
  ])
  await tollgate.cancel(moves.id)
})

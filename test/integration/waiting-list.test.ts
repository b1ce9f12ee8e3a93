import { Queue } from 'bullmq'
import { expect, onTestFinished, test } from 'vitest'
import { type CallsQuery, type ListedCall, type RuleSpec, Tollgate } from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'
import { codeOf } from '../support/place.js'
import { until } from '../support/until.js'

const RULES: RuleSpec[] = [
  { name: 'per-user', scope: 'user', limits: [{ requests: 1, per: 'hour' }] },
  { name: 'slots', scope: 'team', limits: [{ concurrency: 1 }] },
]

/** All calls, and how many pages they took. */
async function allCalls(tollgate: Tollgate, query: CallsQuery): Promise<{ calls: ListedCall[]; pages: number }> {
  const calls: ListedCall[] = []
  for (let cursor: string | undefined, pages = 1; ; pages++) {
    const page = await tollgate.calls({ ...query, cursor })
    expect(page.calls.length).toBeLessThanOrEqual(query.limit ?? 100)
    calls.push(...page.calls)
    if (page.cursor === null) return { calls, pages }
    cursor = page.cursor
  }
}

test('every call that waits is listed once, page by page, with what it waits for', { timeout: 60_000 }, async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  // 200 lines of one call, one of 150, and the calls that have room and no worker.
  const users = Array.from({ length: 200 }, (_, n) => `u${n}`)
  await tollgate.enqueueMany(users.map((user) => ({ agent: 'a', user })))
  const waiting = [
    ...users.map((user, n) => ({ agent: 'a', user, org: `o${n % 4}`, id: `${user}-waits` })),
    ...Array.from({ length: 149 }, (_, n) => ({ agent: 'a', user: 'u0', org: 'big', id: `big-${n}` })),
  ]
  await tollgate.enqueueMany(waiting)
  const ids = waiting.map(({ id }) => id).sort()
  for (const limit of [7, 100, 500]) {
    const { calls } = await allCalls(tollgate, { state: 'waiting', limit })
    expect(calls.map(({ id }) => id).sort()).toEqual(ids)
    expect(calls.every(({ waitsFor, binding }) => waitsFor === 'RATE' && binding?.rule === 'per-user')).toBe(true)
  }
  const big = await allCalls(tollgate, { org: 'big', limit: 60, state: 'waiting' })
  expect(big.calls).toHaveLength(149)
  expect(big.calls[0]).toMatchObject({ agent: 'a', user: 'u0', org: 'big', queue: 'calls', state: 'waiting' })
  const places = big.calls.map(({ position }) => position)
  expect(places).toEqual([...places].sort((one, other) => (one ?? 0) - (other ?? 0)))
  expect((await allCalls(tollgate, { org: 'o1' })).calls).toHaveLength(50)
  expect((await allCalls(tollgate, { rule: 'slots' })).calls).toEqual([])
  // Without a state: woken ones, too.
  const all = (await allCalls(tollgate, {})).calls
  expect(all).toHaveLength(549)
  expect(all.filter(({ state, waitsFor }) => state === 'woken' && waitsFor === 'NO_WORKER')).toHaveLength(200)
  expect((await allCalls(tollgate, { waitsFor: 'NO_WORKER' })).calls).toHaveLength(200)

  const lines: { line: string; depth: number }[] = []
  for (let cursor: string | undefined; ; ) {
    const page = await tollgate.lines({ limit: 30, cursor })
    lines.push(...page.lines)
    if (page.cursor === null) break
    cursor = page.cursor
  }
  expect(lines).toHaveLength(200)
  expect(lines.find(({ line }) => line === 'per-user/u0')).toMatchObject({
    depth: 150,
    head: 'u0-waits',
    waitsFor: 'RATE',
    binding: { limit: 'requests/hour' },
  })
  const [line] = (await tollgate.lines({ limit: 200 })).lines
  expect(line?.line).toBe('per-user/u0')
  expect(line?.oldestMs).toBeGreaterThanOrEqual(0)
  expect(line).toMatchObject({ headEtaMs: expect.any(Number), headEtaMaxMs: expect.any(Number) })
  await namespace.redis.del(await namespace.allKeys())
})

test('a page costs the same however many calls wait', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  const commands = async (work: () => Promise<unknown>) => {
    const calls = async () => {
      const stats = await namespace.redis.info('commandstats')
      return [...stats.matchAll(/cmdstat_(zscan|zrange|mget|hget|hmget|fcall|zrank|zcard|zscore):calls=(\d+)/g)].reduce(
        (sum, [, , count]) => sum + Number(count),
        0,
      )
    }
    const before = await calls()
    await work()
    return (await calls()) - before
  }
  const page = () => commands(() => tollgate.calls({ state: 'waiting', limit: 10 }))
  await tollgate.enqueueMany(Array.from({ length: 60 }, () => ({ agent: 'a', user: 'x' })))
  const few = await page()
  await tollgate.enqueueMany(Array.from({ length: 1500 }, () => ({ agent: 'a', user: 'x' })))
  // Other tests may use the same Redis meanwhile: the least of some.
  const many = Math.min(await page(), await page(), await page())
  expect(many).toBeLessThan(3 * few)
  await namespace.redis.del(await namespace.allKeys())
})

test('running and queued calls, held ones and those of a paused queue are found, and what is not valid is refused', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  let end = () => {}
  const gone = new Promise<void>((resolve) => {
    end = resolve
  })
  tollgate.worker(() => gone, { concurrency: 1 })
  const running = await tollgate.enqueue({ agent: 'a', team: 't', org: 'acme' })
  await until('it runs', async () => (await tollgate.calls({ state: 'running' })).calls[0]?.id === running.id)
  expect((await tollgate.calls({ state: 'running', org: 'acme' })).calls).toMatchObject([{ state: 'running', waitsFor: null, team: 't' }])
  const held = tollgate.hold()
  const made = held.run({ agent: 'a', team: 't' }, async () => 1)
  await until('the held call waits', async () =>
    (await tollgate.calls({ waitsFor: 'CONCURRENCY' })).calls.some(({ queue }) => queue?.startsWith('held-') === true),
  )
  const queue = new Queue('calls', { connection: namespace.redis, prefix: tollgate.prefix })
  onTestFinished(() => queue.close())
  await queue.add('foreign', { agent: 'b', org: 'plain' }, { jobId: 'p', priority: 5 })
  await until('the plain job is queued', async () => {
    const { calls } = await tollgate.calls({ state: 'queued', org: 'plain' })
    return calls[0]?.agent === 'b' && calls[0].waitsFor === 'WORKERS_BUSY'
  })
  await queue.remove('p')
  end()
  expect(await made).toBe(1)
  await running.result()
  for (const query of [
    { limit: 0 },
    { limit: 501 },
    { state: 'done' },
    { cursor: 'x' },
    { cursor: Buffer.from('[0,"a","",""]').toString('base64url') },
    { orgs: 'x' },
  ])
    expect(await codeOf(tollgate.calls(query as CallsQuery))).toBe('REQUEST_INVALID')
  expect(await codeOf(tollgate.lines({ limit: 201 }))).toBe('REQUEST_INVALID')
})

test('without a Redis the calls that wait in acquire are listed', async () => {
  const redisUrl = process.env['REDIS_URL']
  delete process.env['REDIS_URL']
  const tollgate = await Tollgate.open({ rules: RULES })
  if (redisUrl !== undefined) process.env['REDIS_URL'] = redisUrl
  onTestFinished(() => tollgate.close())
  const grant = await tollgate.gate.acquire({ agent: 'a', team: 't' })
  const signal = new AbortController()
  const waiting = [1, 2, 3].map((n) => tollgate.gate.acquire({ agent: 'a', team: 't', org: `o${n}` }, { signal: signal.signal }).catch(() => null))
  await until('they wait', async () => (await tollgate.calls()).calls.length === 3)
  expect((await tollgate.calls({ org: 'o2' })).calls).toMatchObject([{ position: 1, waitsFor: 'CONCURRENCY', queue: null }])
  const page = await tollgate.calls({ limit: 2 })
  expect(page.calls.map(({ org }) => org)).toEqual(['o1', 'o2'])
  expect((await tollgate.calls({ limit: 2, cursor: page.cursor as string })).calls).toMatchObject([{ org: 'o3' }])
  expect(await tollgate.lines()).toMatchObject({ lines: [{ line: 'slots/t', depth: 3, waitsFor: 'CONCURRENCY', headEtaMs: null }], cursor: null })
  signal.abort()
  await Promise.all(waiting)
  await grant.release()
})

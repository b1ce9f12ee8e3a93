import { Queue } from 'bullmq'
import { expect, onTestFinished, test } from 'vitest'
import { type Call, type CallContext, httpAgent, type RuleSpec, type Tollgate, type TollgateOptions, UpstreamLimited } from '../../src/index.js'
import { startAgent } from '../support/http-agent.js'
import { newNamespace } from '../support/namespace.js'
import { codeOf, usedBy } from '../support/place.js'
import { until } from '../support/until.js'

const CALL: Call = { agent: 'llm' }
/** One call, and the next in half an hour. */
const SCARCE: RuleSpec = { name: 'r', scope: 'agent', limits: [{ requests: 2, per: 'hour', burst: 1 }] }

async function plainQueue(tollgate: Tollgate, url: string): Promise<Queue> {
  const queue = new Queue(tollgate.queue, { connection: { url }, prefix: tollgate.prefix })
  onTestFinished(() => queue.close())
  return queue
}

/** A Tollgate with a worker, and the calls that its handler got. */
async function withWorker(options: TollgateOptions, worker: Parameters<Tollgate['worker']>[1] = {}) {
  const namespace = newNamespace()
  const tollgate = await namespace.open(options)
  const ran: { call: Call; context: CallContext }[] = []
  tollgate.worker(async (call, context) => {
    ran.push({ call, context })
    return `by the agent${context.degraded ? ', degraded' : ''}`
  }, worker)
  return { namespace, tollgate, ran }
}

test('a call whose deadline passes in line leaves it, costs nothing, and is recorded as expired', async () => {
  const { namespace, tollgate, ran } = await withWorker({ rules: [{ ...SCARCE, limits: [{ concurrency: 1 }, { requests: 5, per: 'hour' }] }] })
  const grant = await tollgate.gate.admit(CALL)
  const late = await tollgate.enqueue({ ...CALL, maxWaitMs: 300, id: 'late' })
  const behind = await tollgate.enqueue({ ...CALL, id: 'behind' })
  expect([late.decision?.outcome, behind.decision?.outcome]).toEqual(['wait', 'wait'])
  expect(await codeOf(late.result())).toBe('CALL_EXPIRED')
  expect(await tollgate.explain('late')).toMatchObject({ state: 'expired', reason: expect.stringContaining('CALL_EXPIRED') })
  expect(await tollgate.explain('behind')).toMatchObject({ state: 'waiting', position: 0 })
  expect(await namespace.redis.zcard(namespace.keys.deadlines)).toBe(0)
  await grant.settle()
  await behind.result()
  expect(ran.map(({ context }) => context.id)).toEqual(['behind'])
  expect(await usedBy(tollgate, CALL, 'requests/hour')).toBeCloseTo(2, 1)
})

test('a call that its agent sends back waits no longer than its maxWaitMs', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [] })
  tollgate.worker(async () => {
    throw new UpstreamLimited({ retryAfterMs: 600_000 })
  })
  const ticket = await tollgate.enqueue({ ...CALL, maxWaitMs: 300 })
  expect(ticket.decision?.outcome).toBe('run')
  expect(await codeOf(ticket.result())).toBe('CALL_EXPIRED')
  await until('nothing is held', async () => (await namespace.allKeys()).every((key) => !/\/(c|l|s|passes|lines|deadlines)(\/|$)/.test(key)))
})

test('a call whose estimated start misses its deadline is refused at enqueue, with the estimate', async () => {
  const tollgate = await newNamespace().open({ rules: [SCARCE] })
  await tollgate.gate.admit(CALL)
  const [ticket] = await tollgate.enqueueMany([{ ...CALL, deadline: new Date(Date.now() + 60_000) }])
  expect(ticket?.error).toMatchObject({ code: 'DEADLINE_MISSED', rule: 'r', etaMs: expect.any(Number), retryAfterMs: null })
  expect((ticket?.error as { etaMs?: number } | undefined)?.etaMs).toBeGreaterThan(1_700_000)
  await expect(tollgate.enqueue({ ...CALL, deadline: '2020-01-01T00:00:00Z' })).rejects.toMatchObject({ code: 'CALL_EXPIRED', status: 504 })
  expect(await usedBy(tollgate, CALL)).toBeCloseTo(1, 1)
})

test('a job of a plain queue is refused, slowed, degraded or expired as any call', async () => {
  const { namespace, tollgate } = await withWorker({
    rules: [{ ...SCARCE, strategy: 'retry_after', degraded: [{ requests: 1, per: 'hour' }] }],
    strategies: { refuse: () => ({ outcome: 'reject' }) },
  })
  await tollgate.gate.admit(CALL)
  const queue = await plainQueue(tollgate, namespace.url)
  const outcome = async (data: object) => {
    const job = await queue.add('llm', { ...CALL, ...data }, { attempts: 3 })
    await until('it has ended', async () => (await queue.getJobState(job.id as string)).match(/completed|failed/) !== null)
    const ended = await queue.getJob(job.id as string)
    return { reason: ended?.failedReason, value: ended?.returnvalue, attempts: ended?.attemptsMade }
  }
  expect(await outcome({})).toMatchObject({ reason: expect.stringMatching(/^RATE_LIMIT_EXCEEDED: .*room in \d+ ms/), attempts: 1 })
  expect(await outcome({ strategy: 'hard' })).toMatchObject({ reason: expect.stringMatching(/^RATE_LIMIT_EXCEEDED: no room \([^)]*\)$/) })
  expect(await outcome({ strategy: 'graceful' })).toMatchObject({ value: 'by the agent, degraded' })
  expect(await outcome({ strategy: 'graceful' })).toMatchObject({ reason: expect.stringContaining('r~degraded') })
  expect(await outcome({ strategy: 'custom:refuse' })).toMatchObject({ reason: expect.stringMatching(/^RATE_LIMIT_EXCEEDED/) })
  expect(await outcome({ deadline: '2020-01-01T00:00:00Z' })).toMatchObject({ reason: expect.stringMatching(/^CALL_EXPIRED/) })
  expect(await outcome({ strategy: 'queue', maxWaitMs: 100 })).toMatchObject({ reason: expect.stringMatching(/^DEADLINE_MISSED/) })
})

test('throttle spaces calls that are enqueued at once, and uses no attempt', async () => {
  const { tollgate, ran } = await withWorker({
    rules: [{ name: 'r', scope: 'agent', strategy: 'throttle', maxDelayMs: 1500, limits: [{ requests: 20, per: 'second', burst: 1 }] }],
  })
  const tickets = await tollgate.enqueueMany(Array.from({ length: 40 }, (_, index) => ({ ...CALL, id: `c${index}` })))
  const refused = tickets.filter(({ error }) => error !== undefined)
  expect(refused.length).toBeGreaterThan(5)
  for (const { error } of refused) expect(error).toMatchObject({ code: 'RATE_LIMIT_EXCEEDED', retryAfterMs: expect.any(Number) })
  const taken = tickets.filter(({ error }) => error === undefined)
  expect(new Set(taken.map(({ decision }) => decision?.outcome))).toEqual(new Set(['run', 'wait']))
  await Promise.all(taken.map((ticket) => ticket.result()))
  // Two calls held in their worker may change places on a busy machine.
  const order = ran.map(({ context }) => taken.findIndex(({ id }) => id === context.id))
  expect([...order].sort((one, other) => one - other)).toEqual(taken.map((_, index) => index))
  for (const [place, index] of order.entries()) expect(Math.abs(place - index)).toBeLessThanOrEqual(3)
  const times = ran.map(({ context }) => context.decision.atMs)
  for (const [index, time] of times.slice(1).entries()) expect(time - (times[index] as number)).toBeGreaterThan(49.9)
  expect(ran.every(({ context }) => context.attempt === 1)).toBe(true)
})

test('graceful: the context says whether a call runs degraded, and with which model', async () => {
  const { tollgate, ran } = await withWorker({
    rules: [
      { ...SCARCE, strategy: 'graceful', degraded: [{ requests: 2, per: 'hour' }] },
      { name: 'models', scope: 'model', limits: [{ requests: 100, per: 'hour' }] },
    ],
    degradeTo: { llm: 'small' },
  })
  const tickets = await tollgate.enqueueMany(Array.from({ length: 4 }, () => ({ ...CALL, model: 'large' })))
  expect(tickets.map(({ decision }) => decision?.outcome)).toEqual(['run', 'degrade', 'degrade', 'reject'])
  await Promise.all(tickets.slice(0, 3).map((ticket) => ticket.result()))
  expect(ran.map(({ call, context }) => [call.model, context.degraded, context.degradeTo])).toEqual([
    ['large', false, 'small'],
    ['small', true, 'small'],
    ['small', true, 'small'],
  ])
  expect(tickets[3]?.error).toMatchObject({ code: 'RATE_LIMIT_EXCEEDED', rule: 'r~degraded', retryAfterMs: expect.any(Number) })
  expect(await usedBy(tollgate, { ...CALL, model: 'large' }, 'requests/hour')).toBeCloseTo(1, 1)
  const of = async (model: string) => Math.round((await tollgate.gate.peek({ ...CALL, model })).usage.find(({ rule }) => rule === 'models')?.used ?? Number.NaN)
  expect([await of('large'), await of('small')]).toEqual([1, 2])
})

test('graceful: an answer of the fallback costs the degraded allowance, and nothing of the account', async () => {
  const { tollgate, ran } = await withWorker(
    {
      rules: [
        { ...SCARCE, strategy: 'graceful', degraded: [{ requests: 5, per: 'hour' }] },
        { name: 'account', scope: 'global', limits: [{ requests: 100, per: 'hour' }] },
      ],
    },
    { fallback: ({ payload }) => (payload === 'known' ? 'from the cache' : undefined) },
  )
  const results: unknown[] = []
  for (const payload of ['known', 'known', 'new']) results.push(await (await tollgate.enqueue({ ...CALL, payload })).result())
  expect(results).toEqual(['by the agent', 'from the cache', 'by the agent, degraded'])
  expect(ran).toHaveLength(2)
  await until('all are settled', async () => (await tollgate.stats.ledger()).open === 0)
  const { usage } = await tollgate.gate.peek({ ...CALL, degraded: true })
  expect(usage.map(({ rule, used }) => [rule, Math.round(used)])).toEqual([
    ['r~degraded', 2],
    ['account', 2],
  ])
})

test('graceful: httpAgent sends the model that a call degrades to', async () => {
  const models: string[] = []
  const agent = await startAgent((response, _count, { body }) => {
    models.push((JSON.parse(body) as { model: string }).model)
    response.end('{}')
  })
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [{ ...SCARCE, strategy: 'graceful', degraded: [{ requests: 2, per: 'hour' }] }], degradeTo: { llm: 'small' } })
  tollgate.worker(httpAgent({ llm: { baseUrl: agent.url } }))
  for (const _ of [1, 2]) await (await tollgate.enqueue({ ...CALL, payload: { model: 'large', messages: [] } })).result()
  expect(models).toEqual(['large', 'small'])
})

test('a degraded call that starts as the probe ends the probing, and an answer of the fallback frees the probe for the next call', async () => {
  const { namespace, tollgate } = await withWorker(
    { rules: [{ ...SCARCE, strategy: 'graceful', degraded: [{ requests: 100, per: 'hour' }] }], degradeTo: { llm: 'small' } },
    { fallback: ({ payload }) => (payload === 'known' ? 'from the cache' : undefined) },
  )
  await tollgate.gate.admit(CALL)
  await tollgate.capacity.announce({ agent: 'llm', model: 'small', retryAfterMs: 50 })
  const state = async () => (await tollgate.capacity.get({ agent: 'llm', model: 'small' })).state
  await until('the block has ended', async () => (await state()) === 'canary')
  // The answer came from the cache, not from the agent: the next call is the probe.
  expect(await (await tollgate.enqueue({ ...CALL, payload: 'known' })).result()).toBe('from the cache')
  const queue = await plainQueue(tollgate, namespace.url)
  await queue.add('llm', CALL)
  await until('the probe has ended', async () => (await state()) === 'recovering')
})

test('a call that was degraded in its worker and sent back keeps its mode, and leaves no claims', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [{ ...SCARCE, strategy: 'graceful', degraded: [{ requests: 100, per: 'hour' }] }] })
  const other = await namespace.open()
  await tollgate.gate.admit(CALL)
  let refused = false
  for (const each of [tollgate, other]) {
    each.worker(async () => {
      if (refused) return
      refused = true
      throw new UpstreamLimited({ retryAfterMs: 200 })
    })
  }
  const queue = await plainQueue(tollgate, namespace.url)
  const jobs = await queue.addBulk(Array.from({ length: 6 }, () => ({ name: 'llm', data: CALL })))
  for (const { id } of jobs) await until('it is done', async () => (await queue.getJobState(id as string)) === 'completed')
  expect(refused).toBe(true)
  const { usage } = await tollgate.gate.peek({ ...CALL, degraded: true })
  expect(usage.map(({ rule, claimed }) => [rule, claimed])).toEqual([['r~degraded', 0]])
  expect((await tollgate.gate.peek(CALL)).usage[0]?.claimed).toBe(0)
})

test('a custom strategy that throws refuses its call alone', async () => {
  const rules: RuleSpec[] = [{ ...SCARCE, match: { agents: ['llm'] }, strategy: 'custom:mine' }]
  const fails = () => {
    throw new Error('no answer')
  }
  const { tollgate } = await withWorker({ rules, strategies: { mine: fails } })
  await tollgate.gate.admit(CALL)
  const tickets = await tollgate.enqueueMany([{ agent: 'other' }, CALL, { agent: 'other' }])
  expect(tickets.map(({ error }) => error?.message)).toEqual([undefined, expect.stringContaining('strategies.mine: failed (no answer)'), undefined])
  await Promise.all([tickets[0]?.result(), tickets[2]?.result()])
})

test('an observer that throws fails no call, and its call gives its slot back', async () => {
  let calls = 0
  const started = () => {
    if (++calls === 1) throw new Error('no disk left')
  }
  const { tollgate } = await withWorker({ rules: [{ name: 'r', scope: 'agent', limits: [{ concurrency: 1 }] }] }, { observer: { started } })
  const [first, second] = await tollgate.enqueueMany([CALL, CALL])
  expect(await first?.result()).toBe('by the agent')
  expect(await second?.result()).toBe('by the agent')
})

test('a call with the deduplication key of one that has not ended is the same call; afterwards it is a new one', async () => {
  const { namespace, tollgate, ran } = await withWorker({ rules: [{ name: 'r', scope: 'agent', limits: [{ concurrency: 1 }] }] })
  const grant = await tollgate.gate.admit(CALL)
  const one = { ...CALL, deduplicationKey: 'report' }
  const first = await tollgate.enqueue(one)
  expect(first.decision?.outcome).toBe('wait')
  const again = await tollgate.enqueue(one)
  expect([again.id, again.decision]).toEqual([first.id, undefined])
  await grant.settle()
  expect(await again.result()).toBe('by the agent')
  const next = await tollgate.enqueue(one)
  expect(next.id).not.toBe(first.id)
  await next.result()
  expect(ran).toHaveLength(2)
  await until('nothing is held', async () => (await namespace.allKeys()).every((key) => !/\/(c|l|s|passes|lines)(\/|$)/.test(key)))
})

test('of calls enqueued at once with the same deduplication key one is made, and the claims of the others are released', async () => {
  const { namespace, tollgate, ran } = await withWorker({ rules: [{ name: 'r', scope: 'agent', limits: [{ requests: 100, per: 'hour' }] }] })
  const other = await namespace.open()
  const one = { ...CALL, deduplicationKey: 'report' }
  const tickets = (await Promise.all([tollgate.enqueueMany([one, one, one]), other.enqueueMany([one, one])])).flat()
  const ids = new Set(tickets.map(({ id }) => id))
  await Promise.all(tickets.map((ticket) => ticket.result()))
  expect(ran.map(({ context }) => context.id).sort()).toEqual([...ids].sort())
  await until('nothing is claimed', async () => (await tollgate.gate.peek(CALL)).usage[0]?.claimed === 0)
  expect(await usedBy(tollgate, CALL)).toBeCloseTo(ids.size, 0)
  expect(ids.size).toBeLessThan(5)
})

test.each([
  [{ deadline: 'tomorrow' }, /^deadline: must be a date.*\(got "tomorrow"\)/],
  [{ deadline: '2026-01-31' }, /^deadline: must be a date/],
  [{ maxWaitMs: 0 }, /^maxWaitMs: .*\(got 0\)/],
  [{ maxWaitMs: Number.NaN }, /^maxWaitMs: must be a number of ms/],
  [{ strategy: 'polite' }, /^strategy: must be one of queue, throttle, graceful, retry_after, hard or custom:<name> \(got "polite"\)/],
  [{ strategy: 'custom:' }, /^strategy: must be one of/],
  [{ deduplicationKey: '' }, /^deduplicationKey: /],
  [{ degraded: 'yes' }, /^degraded: /],
])('a call with %j is refused, naming the field', async (fault, message) => {
  const tollgate = await newNamespace().open({ rules: [] })
  const [ticket] = await tollgate.enqueueMany([{ ...CALL, ...fault } as Call])
  expect(ticket?.error).toMatchObject({ code: 'CALL_INVALID', message: expect.stringMatching(message) })
})

import { Queue } from 'bullmq'
import { expect, onTestFinished, test } from 'vitest'
import { type Call, type RuleSpec, type Tollgate, UpstreamLimited } from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'
import { codeOf } from '../support/place.js'
import { until } from '../support/until.js'

const CALL: Call = { agent: 'llm', org: 'acme' }
/** What calls wait for: so many a second. */
function pace(perSecond: number): RuleSpec {
  return { name: 'pace', scope: 'agent', limits: [{ requests: perSecond, per: 'second', burst: 1 }] }
}
/** What no call waits for. */
function budget(requests: number, more: Partial<RuleSpec> = {}): RuleSpec {
  return { name: 'budget', scope: 'org', strategy: 'hard', limits: [{ requests, per: 'day', algorithm: 'fixed_window' }], ...more }
}

async function enqueue(tollgate: Tollgate, count: number, call: Partial<Call> = {}) {
  return tollgate.enqueueMany(Array.from({ length: count }, () => ({ ...CALL, ...call })))
}

async function claimed(tollgate: Tollgate, rule = 'budget'): Promise<number | undefined> {
  return (await tollgate.gate.peek(CALL)).usage.find((one) => one.rule === rule)?.claimed
}

test('a hard budget refuses at once what its queue has spent already, at every entry, and each call that was let in ends as done', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [pace(10), budget(5)] })
  const tickets = await enqueue(tollgate, 8)
  expect(tickets.map(({ decision, error }) => error?.code ?? decision?.outcome)).toEqual([
    'run',
    ...Array.from({ length: 4 }, () => 'wait'),
    ...Array.from({ length: 3 }, () => 'RATE_LIMIT_EXCEEDED'),
  ])
  expect(tickets[5]?.error).toMatchObject({ rule: 'budget', retryAfterMs: null })
  // None of them has started, and none of what follows has room.
  expect(await codeOf(tollgate.enqueue(CALL))).toBe('RATE_LIMIT_EXCEEDED')
  expect((await tollgate.gate.admit({ ...CALL, agent: 'other' })).allowed).toBe(false)
  expect(await tollgate.gate.tryAcquire({ ...CALL, agent: 'other' })).toBeNull()
  expect(await codeOf(tollgate.hold().run({ ...CALL, agent: 'other' }, async () => 1))).toBe('RATE_LIMIT_EXCEEDED')
  tollgate.worker(async () => 'done')
  expect(await Promise.all(tickets.slice(0, 5).map((ticket) => ticket.result()))).toEqual(Array.from({ length: 5 }, () => 'done'))
  await until('all have ended', async () => (await claimed(tollgate)) === 0)
  expect((await tollgate.gate.peek(CALL)).usage.find(({ rule }) => rule === 'budget')?.used).toBe(5)
})

test('plain jobs and held calls that wait for another rule count at a hard budget, and give back what they do not use', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [{ ...pace(1), limits: [{ concurrency: 1 }] }, budget(4)] })
  const grant = await tollgate.gate.admit({ agent: 'llm' })
  tollgate.worker(async () => 'done')
  const queue = new Queue(tollgate.queue, { connection: { url: namespace.url }, prefix: tollgate.prefix })
  onTestFinished(() => queue.close())
  const plain = await queue.addBulk([1, 2].map(() => ({ name: 'llm', data: CALL })))
  const held = tollgate.hold()
  const controller = new AbortController()
  const aborted = codeOf(held.run(CALL, async () => 1, { signal: controller.signal }))
  const waits = held.run(CALL, async () => 'held')
  await until('all wait', async () => (await claimed(tollgate)) === 4)
  expect(await codeOf(held.run(CALL, async () => 1))).toBe('RATE_LIMIT_EXCEEDED')
  const refused = await queue.add('llm', CALL)
  await until('it is refused', async () => (await queue.getJobState(refused.id as string)) === 'failed')
  controller.abort()
  await aborted
  await until('its claim is given back', async () => (await claimed(tollgate)) === 3)
  const { id } = await tollgate.enqueue(CALL)
  expect(await codeOf(tollgate.enqueue(CALL))).toBe('RATE_LIMIT_EXCEEDED')
  await tollgate.cancel(id)
  const last = await tollgate.enqueue(CALL)
  await grant.release()
  expect([await waits, await last.result()]).toEqual(['held', 'done'])
  for (const job of plain) await until('it is done', async () => (await queue.getJobState(job.id as string)) === 'completed')
  await until('nothing is claimed', async () => (await claimed(tollgate)) === 0)
})

test('a call whose job BullMQ has removed gives back what it had claimed, long before its turn', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [{ ...pace(1), limits: [{ requests: 2, per: 'day', burst: 1 }] }, budget(3)] })
  tollgate.worker(async () => 'done')
  const tickets = await enqueue(tollgate, 3)
  await tickets[0]?.result()
  expect(await codeOf(tollgate.enqueue(CALL))).toBe('RATE_LIMIT_EXCEEDED')
  const queue = new Queue(tollgate.queue, { connection: { url: namespace.url }, prefix: tollgate.prefix })
  onTestFinished(() => queue.close())
  await (await queue.getJob(tickets[2]?.id as string))?.remove()
  await until('its claim is given back', async () => (await claimed(tollgate)) === 1, 15_000)
  const last = await tollgate.enqueue(CALL)
  expect(last.decision?.outcome).toBe('wait')
  for (const id of [tickets[1]?.id as string, last.id]) await tollgate.cancel(id)
}, 30_000)

test('a claim of a call that waits ends by itself, with the memory of its limit', async () => {
  const namespace = newNamespace()
  const quick = budget(2, { limits: [{ requests: 2, per: 'second', algorithm: 'fixed_window' }] })
  const tollgate = await namespace.open({ rules: [{ ...pace(1), limits: [{ requests: 2, per: 'day', burst: 1 }] }, quick] })
  const tickets = await enqueue(tollgate, 2)
  expect(await tollgate.gate.tryAcquire({ ...CALL, agent: 'other' })).toBeNull()
  // No process works: nothing but the clock can give it back.
  await until('others pass', async () => (await tollgate.gate.tryAcquire({ ...CALL, agent: 'other' })) !== null)
  for (const { id } of tickets) await tollgate.cancel(id)
})

test('a rule that begins to refuse while calls wait for it ends them as refused, and one that degrades lets them run degraded', async () => {
  const namespace = newNamespace()
  const waited: RuleSpec = { name: 'waited', scope: 'agent', limits: [{ requests: 2, per: 'day', burst: 1 }] }
  const tollgate = await namespace.open({ rules: [waited] })
  const degraded: boolean[] = []
  tollgate.worker(async (_, context) => {
    degraded.push(context.degraded)
  })
  const [first, ...tickets] = await enqueue(tollgate, 3)
  await first?.result()
  await tollgate.rules.apply([{ ...waited, strategy: 'retry_after' }])
  for (const ticket of tickets) expect(await codeOf(ticket.result())).toBe('RATE_LIMIT_EXCEEDED')
  await tollgate.rules.apply([waited])
  const third = await tollgate.enqueue(CALL)
  expect(third.decision?.outcome).toBe('wait')
  await tollgate.rules.apply([{ ...waited, strategy: 'graceful', degraded: [{ requests: 1, per: 'day' }] }])
  await third.result()
  expect(degraded).toEqual([false, true])
})

test('a call that has waited is refused, degraded or asked about where another rule has no room any more', async () => {
  const namespace = newNamespace()
  const asked: string[] = []
  const rules = (strategy: RuleSpec['strategy']): RuleSpec[] => [
    { ...pace(1), limits: [{ concurrency: 1 }] },
    budget(2, { strategy, ...(strategy === 'graceful' ? { degraded: [{ requests: 5, per: 'day' }] } : {}) }),
  ]
  const strategies = {
    mine: ({ binding }: { binding: { rule: string } }) => {
      asked.push(binding.rule)
      return { outcome: 'reject' as const }
    },
  }
  const tollgate = await namespace.open({ rules: rules('hard'), strategies })
  const ran: boolean[] = []
  tollgate.worker(async (_, context) => {
    ran.push(context.degraded)
  })
  for (const [index, strategy] of (['hard', 'retry_after', 'graceful', 'custom:mine'] as const).entries()) {
    const call = { ...CALL, org: `o${index}` }
    await tollgate.rules.apply(rules(strategy))
    const grant = await tollgate.gate.admit({ agent: 'llm' })
    expect(grant.allowed).toBe(true)
    const ticket = await tollgate.enqueue(call)
    expect(ticket.decision?.outcome).toBe('wait')
    // It was spent elsewhere meanwhile.
    await tollgate.gate.record({ ...call, agent: 'other', cost: { requests: 2 } })
    await grant.release()
    const code = await codeOf(ticket.result())
    expect([strategy, code]).toEqual([strategy, strategy === 'graceful' ? 'no error' : 'RATE_LIMIT_EXCEEDED'])
  }
  expect([ran, asked]).toEqual([[true], ['budget']])
})

test('a call that its agent sends back keeps its budget while it waits, and so does one whose override has ended', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [budget(1)] })
  let refused = false
  tollgate.worker(async () => {
    if (refused) return 'done'
    refused = true
    throw new UpstreamLimited({ retryAfterMs: 1500 })
  })
  const ticket = await tollgate.enqueue(CALL)
  await until('it was sent back', async () => refused && (await claimed(tollgate)) === 1)
  expect(await codeOf(tollgate.enqueue({ ...CALL, agent: 'other' }))).toBe('RATE_LIMIT_EXCEEDED')
  expect(await ticket.result()).toBe('done')

  await tollgate.rules.apply([{ ...pace(1), limits: [{ concurrency: 1 }] }, budget(1)])
  const id = await tollgate.overrides.grant({ for: { org: 'acme' }, allow: { times: 3 }, reason: 'other', text: 'a test', by: 'test', forMs: 60_000 })
  const grant = await tollgate.gate.admit({ agent: 'llm' })
  const more = await enqueue(tollgate, 3)
  expect(more.map(({ decision, error }) => error?.code ?? decision?.outcome)).toEqual(['wait', 'wait', 'RATE_LIMIT_EXCEEDED'])
  await tollgate.overrides.revoke(id, { by: 'test' })
  await grant.release()
  for (const one of more.slice(0, 2)) expect(await codeOf(one.result())).toBe('RATE_LIMIT_EXCEEDED')
})

test('a custom strategy that lets a call wait is not asked again while it waits, and a hard rule still refuses the call', async () => {
  const namespace = newNamespace()
  let asked = 0
  const patient: RuleSpec = { name: 'patient', scope: 'agent', strategy: 'custom:patient', limits: [{ requests: 5, per: 'second', burst: 1 }] }
  const tollgate = await namespace.open({
    rules: [patient, budget(3)],
    strategies: {
      patient: () => {
        asked++
        return { outcome: 'wait' }
      },
    },
  })
  tollgate.worker(async () => 'done')
  const tickets = await enqueue(tollgate, 5)
  expect(tickets.map(({ decision, error }) => error?.code ?? decision?.outcome)).toEqual(['run', 'wait', 'wait', 'RATE_LIMIT_EXCEEDED', 'RATE_LIMIT_EXCEEDED'])
  expect(await Promise.all(tickets.slice(0, 3).map((ticket) => ticket.result()))).toEqual(['done', 'done', 'done'])
  // All four that followed the first, before any of them stood in line; none at its start.
  expect(asked).toBe(4)
})

test('acquire waits for every rule, as it is asked to', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [{ ...pace(1), limits: [{ concurrency: 1 }] }, budget(1)] })
  const ticket = await tollgate.enqueue(CALL)
  const waits = tollgate.gate.acquire({ ...CALL, agent: 'other' })
  await tollgate.cancel(ticket.id)
  await (await waits).release()
})

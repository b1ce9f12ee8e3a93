import { Queue } from 'bullmq'
import { expect, test } from 'vitest'
import type { RuleSpec } from '../../src/index.js'
import type { Call } from '../../src/model/call.js'
import { CallInvalid } from '../../src/model/errors.js'
import { callOfJob } from '../../src/queue/stored-call.js'
import { show } from '../../src/validation/faults.js'
import { BAD_CALLS } from '../support/bad-calls.js'
import { snapshot } from '../support/keys.js'
import { type Namespace, newNamespace } from '../support/namespace.js'
import { until } from '../support/until.js'

const RULES: RuleSpec[] = [
  {
    name: 'per-user',
    scope: 'user',
    limits: [
      { requests: 100, per: 'hour' },
      { tokens: 1e6, per: 'hour' },
    ],
  },
  { name: 'per-agent', scope: 'agent', limits: [{ requests: 100, per: 'day', algorithm: 'fixed_window' }, { concurrency: 10 }] },
  { name: 'per-pair', scope: ['user', 'agent'], limits: [{ requests: 50, per: 'hour' }] },
]

/** A snapshot after BullMQ has written the keys of a newly opened queue. */
async function quietSnapshot(namespace: Namespace): Promise<Record<string, string>> {
  await until('BullMQ has opened the queue', async () => (await namespace.redis.exists(`${namespace.keys.prefix}:calls:meta`)) === 1)
  return snapshot(namespace)
}

async function refusal(work: Promise<unknown>): Promise<CallInvalid> {
  const error: unknown = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof CallInvalid)) throw new Error(`not refused with CallInvalid: ${String(error)}`)
  return error
}

test('a bad call is refused by enqueue, admit and peek, and nothing in Redis changes', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  // Usage and a slot, which a bad call could disturb.
  const grant = await tollgate.gate.admit({ agent: 'a', user: 'u', cost: { tokens: 10 } })
  const before = await quietSnapshot(namespace)
  expect(Object.keys(before).length).toBeGreaterThan(3)
  for (const { what, call, message } of BAD_CALLS) {
    for (const work of [tollgate.enqueue(call as Call), tollgate.gate.admit(call as Call), tollgate.gate.peek(call as Call)]) {
      const error = await refusal(work)
      expect(error.message, what).toMatch(message)
      expect(error.code).toBe('CALL_INVALID')
    }
  }
  const tickets = await tollgate.enqueueMany(BAD_CALLS.map(({ call }) => call as Call))
  expect(tickets).toHaveLength(BAD_CALLS.length)
  for (const [index, { what, message }] of BAD_CALLS.entries()) {
    expect(tickets[index]?.error?.message, what).toMatch(message)
    expect([tickets[index]?.id, tickets[index]?.decision]).toEqual(['', undefined])
  }
  expect(await snapshot(namespace)).toEqual(before)
  expect(await grant.release()).toBe(true)
})

test('the good calls among bad ones are enqueued, each in its place', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  const good = { agent: 'a', user: 'u', cost: { tokens: 1 } }
  const circular: Record<string, unknown> = {}
  circular['self'] = circular
  const tickets = await tollgate.enqueueMany([
    { agent: '' },
    { ...good, id: 'first' },
    { ...good, payload: { n: 1n } },
    { ...good, payload: circular },
    { ...good, id: 'last' },
  ])
  expect(tickets.map(({ id, error }) => error?.code ?? id)).toEqual(['CALL_INVALID', 'first', 'CALL_INVALID', 'CALL_INVALID', 'last'])
  expect(tickets[2]?.error?.message).toMatch(/^payload: must be something that JSON can hold \(.*BigInt.*\)$/)
  expect(tickets[3]?.error?.message).toMatch(/^payload: must be something that JSON can hold \(.*circular.*\)$/)
  tollgate.worker(async (call) => call.agent)
  expect(await Promise.all(tickets.filter(({ error }) => error === undefined).map((ticket) => ticket.result()))).toEqual(['a', 'a'])
  expect((await tollgate.gate.peek({ ...good, cost: { tokens: 0 } })).usage.find(({ rule }) => rule === 'per-agent')?.used).toBe(2)
})

/** A call after a way through JSON, as jobs are stored; undefined where JSON cannot hold it. */
function asData(call: unknown): unknown {
  try {
    return JSON.parse(JSON.stringify(call))
  } catch {
    return undefined
  }
}

/** Whether a bad call is still bad as the data of a job: it has an agent, and its fault survives JSON in a field that is read. */
function staysBad({ call, message }: (typeof BAD_CALLS)[number]): boolean {
  const data = asData(call)
  if (data === null || typeof data !== 'object' || Array.isArray(data) || !('agent' in data)) return false
  const text = message.source
  return !/^\^(id:|usr|f\+|__proto__|constructor)/.test(text)
}

/** The message of CallInvalid for the data of a job, checked without a queue. */
function faultOf(data: unknown): string {
  try {
    callOfJob('any', data)
  } catch (error) {
    if (error instanceof CallInvalid) return error.message
  }
  throw new Error(`no fault in ${show(data)}`)
}

test('a bad call as data of a plain BullMQ job fails at once with the reason, and its handler is not called', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES, attempts: 3 })
  const queue = new Queue('calls', { connection: namespace.redis, prefix: tollgate.prefix })
  const bad = BAD_CALLS.filter(staysBad)
  expect(bad.length).toBeGreaterThan(80)
  const called: unknown[] = []
  tollgate.worker(async (call) => void called.push(call))
  const jobs = await queue.addBulk(bad.map(({ call }) => ({ name: 'any', data: asData(call), opts: { attempts: 3, backoff: { type: 'fixed', delay: 1 } } })))
  await until('all jobs have ended', async () => (await queue.getJobCountByTypes('failed', 'completed')) === bad.length)
  expect(called).toEqual([])
  const failed = new Map((await queue.getFailed(0, -1)).map((job) => [job.id, job]))
  for (const [index, job] of jobs.entries()) {
    const ended = failed.get(job.id)
    expect(ended?.failedReason, bad[index]?.what).toBe(`CALL_INVALID: ${faultOf(asData(bad[index]?.call))}`)
    expect(ended?.failedReason.length).toBeLessThan(500)
    expect(ended?.attemptsMade).toBe(1)
  }
  const ours = (await namespace.allKeys()).filter((key) => /\}\/[mlsc]\//.test(key))
  expect(ours, 'meters, lines, leases and records').toEqual([])
  await queue.close()
})

test('a call that callOf makes of a job is checked like any call', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  const queue = new Queue('calls', { connection: namespace.redis, prefix: tollgate.prefix })
  const called: string[] = []
  tollgate.worker(async (call) => void called.push(call.agent), { callOf: (job) => ({ agent: job.data.to, cost: { tokens: job.data.size } }) })
  const jobs = await queue.addBulk([
    { name: 'a', data: { to: 'mail', size: 'big' } },
    { name: 'b', data: { to: 'mail\ud800', size: 1 } },
    { name: 'c', data: { to: 'mail', size: 1 } },
  ])
  await until('all jobs have ended', async () => (await queue.getJobCountByTypes('failed', 'completed')) === 3)
  const reasons = await Promise.all(jobs.map(async ({ id }) => (await queue.getJob(id as string))?.failedReason))
  expect(reasons[0]).toMatch(/^CALL_INVALID: cost\.tokens: must be a number from 0 to 1000000000000 \(got "big"\)$/)
  expect(reasons[1]).toMatch(/^CALL_INVALID: agent: must be well-formed unicode/)
  expect(called).toEqual(['mail'])
  await queue.close()
})

test('names that differ have meters that differ, whatever their characters', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({
    rules: [{ name: 'pair', scope: ['user', 'agent'], limits: [{ requests: 1, per: 'day', algorithm: 'fixed_window' }] }],
  })
  const pairs: [user: string, agent: string][] = [
    ['a|b', 'c'],
    ['a', 'b|c'],
    ['a%7Cb', 'c'],
    ['a/b', 'c'],
    ['a', 'b/c'],
    ['a:b', 'c'],
    ['{a}', 'c'],
    ['}', '{'],
    ['*', '*'],
    ['%2A', '*'],
    [' ', ' '],
    ['\u00e9', 'c'],
    ['e\u0301', 'c'],
    ['аdmin', 'c'],
    ['admin', 'c'],
    ['😀', '😀'],
    ['ש', 'م'],
    ['a\u202eb', 'c'],
    ['__proto__', 'constructor'],
    ['constructor', '__proto__'],
    ['toString', 'hasOwnProperty'],
    ['x'.repeat(256), '😀'.repeat(128)],
  ]
  for (const [user, agent] of pairs) {
    expect((await tollgate.gate.admit({ agent, user })).allowed, `first of ${user}, ${agent}`).toBe(true)
    expect((await tollgate.gate.admit({ agent, user })).allowed, `second of ${user}, ${agent}`).toBe(false)
  }
  expect((await namespace.allKeys()).filter((key) => key.includes('/m/pair/'))).toHaveLength(pairs.length)
  expect(({} as Record<string, unknown>)['c']).toBeUndefined()
})

test('an id such as __proto__ works from enqueue to explain', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  tollgate.worker(async (call) => call.payload)
  for (const id of ['__proto__', 'constructor', 'toString', 'hasOwnProperty', '😀/|{}%* ']) {
    const ticket = await tollgate.enqueue({ agent: id, user: id, org: id, keys: { constructor: id }, id, payload: { id }, cost: { tokens: 1 } })
    expect(ticket.id).toBe(id)
    expect(await ticket.result()).toEqual({ id })
    expect((await tollgate.explain(id)).state).toBe('done')
  }
})

test('a call whose estimate is no amount is refused before anything is charged', async () => {
  for (const tokens of [Number.NaN, -1, 1e13, Number.POSITIVE_INFINITY, '5', null, undefined, {}]) {
    const namespace = newNamespace()
    const tollgate = await namespace.open({ rules: RULES, estimate: () => tokens as number })
    const before = await quietSnapshot(namespace)
    expect((await refusal(tollgate.enqueue({ agent: 'a', user: 'u' }))).message).toMatch(
      /^cost\.tokens: the estimate must be a number from 0 to 1000000000000 \(got .*\)$/,
    )
    await refusal(tollgate.gate.admit({ agent: 'a', user: 'u' }))
    await refusal(tollgate.gate.peek({ agent: 'a', user: 'u' }))
    expect(await snapshot(namespace)).toEqual(before)
  }
})

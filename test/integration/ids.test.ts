import { Queue } from 'bullmq'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type Call, type RuleSpec, Tollgate, type TollgateOptions } from '../../src/index.js'
import { recordId } from '../../src/queue/stored-call.js'
import { MemoryStore } from '../../src/store/memory/memory-store.js'
import { newNamespace } from '../support/namespace.js'
import { realScriptClient, requestOf } from '../support/script-client.js'
import { until } from '../support/until.js'

const RULES: RuleSpec[] = [
  { name: 'user', scope: 'user', limits: [{ tokens: 100, per: 'day', algorithm: 'fixed_window' }, { concurrency: 5 }] },
  { name: 'agent', scope: 'agent', limits: [{ requests: 50, per: 'day', algorithm: 'fixed_window' }] },
]
const TAKEN = { code: 'ID_TAKEN', status: 409, retryable: false }
const ANN: Call = { id: 'one', agent: 'llm', user: 'ann', cost: { tokens: 10 } }

/** Calls under the id of Ann's that are not Ann's. */
const OTHERS: readonly [string, Partial<Call>][] = [
  ['user', { user: 'bob' }],
  ['no user', { user: undefined }],
  ['agent', { agent: 'other' }],
  ['endpoint', { endpoint: '/v1' }],
  ['model', { model: 'small' }],
  ['team', { team: 't' }],
  ['org', { org: 'o' }],
  ['ip', { ip: '10.0.0.1' }],
  ['key', { keys: { tenant: 'x' } }],
]

function without(id: Partial<Call>): Call {
  return { ...ANN, ...id, id: undefined }
}

const openInMemory = async (options: TollgateOptions) => {
  const tollgate = await Tollgate.open({ ...options, store: new MemoryStore() })
  onTestFinished(() => tollgate.close())
  return tollgate
}

describe.each([
  ['Redis', (options: TollgateOptions) => newNamespace().open(options)],
  ['memory', openInMemory],
])('at the gate, in %s', (_, open) => {
  const used = async (tollgate: Tollgate, call: Call) => (await tollgate.gate.peek(call)).usage.map((usage) => usage.used)

  test.each(OTHERS)('a call under the id of one with another %s is refused by every verb', async (_, other) => {
    const { gate } = await open({ rules: RULES })
    const foreign: Call = { ...ANN, ...other }
    const grant = await gate.admit(ANN)
    const [before, beforeOther] = [(await gate.peek(without({}))).usage, (await gate.peek(without(other))).usage]
    await expect(gate.admit(foreign)).rejects.toMatchObject(TAKEN)
    await expect(gate.tryAcquire(foreign)).rejects.toMatchObject(TAKEN)
    await expect(gate.acquire(foreign)).rejects.toMatchObject(TAKEN)
    await expect(gate.record(foreign)).rejects.toMatchObject(TAKEN)
    await expect(gate.peek(foreign)).rejects.toMatchObject(TAKEN)
    await expect(gate.settle(foreign, { tokens: 0 })).rejects.toMatchObject(TAKEN)
    await expect(gate.release(foreign)).rejects.toMatchObject(TAKEN)
    const counted = (usage: typeof before) => usage.map((one) => [one.rule, one.limit, one.used])
    expect(counted((await gate.peek(without({}))).usage)).toEqual(counted(before))
    expect(counted((await gate.peek(without(other))).usage)).toEqual(counted(beforeOther))
    expect(await grant.settle({ tokens: 4 })).toBe(true)
    expect((await gate.admit(foreign)).allowed, 'the id is free once the first call has ended').toBe(true)
    expect(await grant.settle({ tokens: 0 })).toBe(false)
    await expect(gate.settle(ANN, { tokens: 0 })).rejects.toMatchObject(TAKEN)
  })

  test('the same call again is what it was, whatever its cost, priority and payload', async () => {
    const tollgate = await open({ rules: RULES })
    const call: Call = { ...ANN, keys: { b: '2', a: '1' }, ip: '::1' }
    await tollgate.gate.admit(call)
    const again = { ...call, cost: { tokens: 60 }, priority: 7, payload: 'x', keys: { a: '1', b: '2' }, ip: '0:0:0:0:0:0:0:1' }
    expect((await tollgate.gate.admit(again)).allowed).toBe(true)
    expect((await tollgate.gate.record(again)).allowed).toBe(true)
    expect(await used(tollgate, without({}))).toEqual([10, 1, 1])
    expect(await tollgate.gate.settle(again, { tokens: 5 })).toBe(true)
    expect(await tollgate.gate.settle(again, { tokens: 5 })).toBe(false)
    expect(await used(tollgate, without({}))).toEqual([5, 0, 1])
  })

  test('an ended grant does nothing to the next call of its id', async () => {
    const { gate } = await open({ rules: RULES })
    const first = await gate.admit(ANN)
    expect(await first.settle({ tokens: 10 })).toBe(true)
    await gate.admit(ANN)
    expect([await first.settle({ tokens: 0 }), await first.release(), await first.settlePart({ tokens: 90 })]).toEqual([false, false, false])
    expect((await gate.peek(without({}))).usage[0]?.used).toBe(20)
  })
})

test('no id of a call is the name of anything else', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  for (let n = 0; n < 3; n++) await tollgate.gate.admit({ agent: 'llm', user: 'ann', cost: { tokens: 1 } })
  const prefix = `${namespace.keys.prefix}/`
  const keys = await namespace.allKeys()
  const names = keys.flatMap((key) => [key, key.slice(prefix.length), key.slice(prefix.length + 2), key.slice(prefix.length + 4), key.replace(/^.*\//, '')])
  const strange = ['~', '/', '~/~~/x', '../x', 'a|b', '"', '\\', 'é', 'e\u0301', '😀', '\u202e', 'x'.repeat(256), 'lines', 'rules', '0', '-1'.padEnd(9, 'x')]
  const ids = [...new Set([...names, ...strange])].filter((id) => id !== '' && id.length <= 256 && !id.includes(':') && !/^-?\d+$/.test(id))
  expect(ids.length).toBeGreaterThan(20)
  const before = await Promise.all(keys.map((key) => namespace.redis.dumpBuffer(key)))
  const grants = []
  for (const [n, id] of ids.entries()) {
    await expect(tollgate.gate.settle({ id, agent: 'a', user: `u${n}` }), id).resolves.toBe(false)
    await expect(tollgate.gate.release({ id, agent: 'a', user: `u${n}` }), id).resolves.toBe(false)
    const grant = await tollgate.gate.admit({ id, agent: `a${n}`, user: `u${n}`, cost: { tokens: 1 } })
    expect(grant.allowed).toBe(true)
    grants.push(grant)
  }
  for (const grant of grants) expect(await grant.release()).toBe(true)
  const after = await Promise.all(keys.map((key) => namespace.redis.dumpBuffer(key)))
  const changed = keys.filter((_, n) => before[n]?.equals(after[n] as Buffer) === false)
  expect(changed).toEqual(changed.filter((key) => key === namespace.keys.figures || key === namespace.keys.pulse))
})

describe('at the front door', () => {
  test.each(OTHERS)('a call under the id of a waiting, running or finished one with another %s is refused', async (_, other) => {
    const namespace = newNamespace()
    const tollgate = await namespace.open({ rules: RULES })
    const foreign: Call = { ...ANN, ...other }
    const refused = async () => {
      await expect(tollgate.enqueue(foreign)).rejects.toMatchObject(TAKEN)
      const [ticket, fine] = await tollgate.enqueueMany([foreign, { agent: 'llm', cost: { tokens: 0 } }])
      expect(ticket).toMatchObject({ id: 'one', error: TAKEN })
      expect(fine?.error).toBeUndefined()
      await expect(ticket?.result()).rejects.toMatchObject(TAKEN)
    }
    await tollgate.enqueue(ANN)
    await refused()
    let end = () => {}
    const handlerEnds = new Promise<void>((resolve) => {
      end = resolve
    })
    tollgate.worker(async ({ user }) => {
      if (user === 'ann') await handlerEnds
      return 'secret'
    })
    await until('it runs', async () => (await tollgate.explain('one')).state === 'running')
    await refused()
    end()
    const ticket = await tollgate.enqueue({ ...ANN, cost: { tokens: 90 }, payload: 2 })
    expect(ticket.decision).toBeUndefined()
    expect(await ticket.result()).toBe('secret')
    await refused()
    await until('all have ended', async () => (await tollgate.stats.ledger()).open === 0)
    expect((await tollgate.gate.peek({ agent: 'x', user: 'ann' })).usage[0]?.used).toBe(10)
  })

  test('of two calls with one id that come at once through two processes one wins, and what the other was promised is not kept', async () => {
    const namespace = newNamespace()
    const processes = [await namespace.open({ rules: RULES }), await namespace.open()]
    for (let n = 0; n < 20; n++) {
      const users = [`a${n}`, `b${n}`]
      const answers = await Promise.allSettled(users.map((user, index) => processes[index]?.enqueue({ ...ANN, id: `race ${n}`, user })))
      expect(answers.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
      const lost = answers.findIndex(({ status }) => status === 'rejected')
      expect(answers[lost]).toMatchObject({ reason: TAKEN })
      const claimed = await Promise.all(users.map(async (user) => (await processes[0]?.gate.peek({ agent: 'x', user }))?.usage[0]?.claimed))
      expect(claimed).toEqual(lost === 0 ? [0, 10] : [10, 0])
      expect(await processes[0]?.cancel(`race ${n}`)).toBe(true)
    }
    const same = await Promise.all(processes.map((tollgate) => tollgate.enqueue(ANN)))
    expect(same.map(({ id }) => id)).toEqual(['one', 'one'])
    expect((await processes[0]?.gate.peek({ agent: 'x', user: 'ann' }))?.usage[0]?.claimed).toBe(10)
    await processes[0]?.cancel('one')
  })

  test('a deduplication key is no key to the call of another', async () => {
    const namespace = newNamespace()
    const tollgate = await namespace.open({ rules: RULES })
    const call: Call = { agent: 'llm', user: 'ann', cost: { tokens: 10 }, deduplicationKey: 'k' }
    const first = await tollgate.enqueue(call)
    expect((await tollgate.enqueue({ ...call, payload: 2 })).id).toBe(first.id)
    await expect(tollgate.enqueue({ ...call, user: 'bob' })).rejects.toMatchObject(TAKEN)
    const users = ['a', 'b', 'c']
    const tickets = await tollgate.enqueueMany(users.map((user) => ({ ...call, user, deduplicationKey: 'at once' })))
    expect(tickets.map(({ error }) => error?.code ?? 'accepted').sort()).toEqual(['ID_TAKEN', 'ID_TAKEN', 'accepted'])
    const claimed = await Promise.all(users.map(async (user) => (await tollgate.gate.peek({ agent: 'x', user })).usage[0]?.claimed ?? 0))
    expect(claimed.sort()).toEqual([0, 0, 10])
    for (const { id } of [first, ...tickets.filter(({ error }) => error === undefined)]) await tollgate.cancel(id)
  })

  test('a call joins the plain job of its id, if that is its own', async () => {
    const namespace = newNamespace()
    const tollgate = await namespace.open({ rules: RULES })
    const plain = new Queue('calls', { connection: { url: namespace.url }, prefix: tollgate.prefix })
    onTestFinished(() => plain.close())
    await plain.add('llm', { agent: 'llm', user: 'ann', payload: 1 }, { jobId: 'plain' })
    await expect(tollgate.enqueue({ ...ANN, id: 'plain', user: 'bob' })).rejects.toMatchObject(TAKEN)
    expect(await tollgate.enqueue({ ...ANN, id: 'plain' })).toMatchObject({ id: 'plain', decision: undefined })
    await plain.add('llm', { text: 'whole data' }, { jobId: 'bare' })
    expect(await tollgate.enqueue({ id: 'bare', agent: 'llm' })).toMatchObject({ id: 'bare' })
    await expect(tollgate.enqueue({ id: 'bare', agent: 'other' })).rejects.toMatchObject(TAKEN)
    await tollgate.cancel('plain')
    await tollgate.cancel('bare')
  })

  test('a call that a rule has degraded is still the call that it was', async () => {
    const namespace = newNamespace()
    const degraded: RuleSpec = {
      name: 'g',
      scope: 'user',
      strategy: 'graceful',
      limits: [{ requests: 0.0001, per: 'day', burst: 1 }],
      degraded: [{ requests: 10, per: 'day', algorithm: 'fixed_window' }],
    }
    const tollgate = await namespace.open({ rules: [degraded], degradeTo: { llm: 'small' } })
    const call: Call = { agent: 'llm', user: 'ann', model: 'large' }
    await tollgate.gate.admit(call)
    expect((await tollgate.enqueue({ ...call, id: 'd' })).decision?.outcome).toBe('degrade')
    expect((await tollgate.enqueue({ ...call, id: 'd' })).id).toBe('d')
    await expect(tollgate.enqueue({ ...call, id: 'd', model: 'small' })).rejects.toMatchObject(TAKEN)
    await tollgate.cancel('d')
  })

  test('a ticket whose job was removed does not read the result of the call that has its id now', async () => {
    const tollgate = await newNamespace().open({ rules: RULES })
    const ticket = await tollgate.enqueue(ANN)
    await tollgate.cancel('one')
    const next = await tollgate.enqueue({ ...ANN, user: 'bob' })
    tollgate.worker(async () => 'for bob')
    expect(await next.result()).toBe('for bob')
    await expect(ticket.result()).rejects.toMatchObject({ code: 'CALL_UNKNOWN' })
  })

  test('a late copy of an enqueue promises nothing to a call whose job exists', async () => {
    const namespace = newNamespace()
    const tollgate = await namespace.open({ rules: RULES })
    await tollgate.enqueue(ANN)
    const scriptClient = realScriptClient(namespace, RULES)
    await namespace.redis.del(namespace.keys.call(recordId('calls', 'one')), namespace.keys.passes)
    expect(await scriptClient.enqueue([requestOf(scriptClient, 'one', ANN)], 'calls')).toEqual([{ outcome: 'joined' }])
    expect(await namespace.redis.exists(namespace.keys.call(recordId('calls', 'one')))).toBe(0)
    await tollgate.cancel('one')
  })
})

test('a late copy of a batch of starts starts nothing, and a copy whose reply was lost is answered as it was', async () => {
  const namespace = newNamespace()
  const scriptClient = realScriptClient(namespace, RULES)
  let number = 0
  const sender = { name: 's', next: () => number }
  const send = (at: number, id: string, ledger: string) => {
    number = at
    return scriptClient.start([{ ...requestOf(scriptClient, id, { ...ANN, id: undefined }, ledger), token: '0' }], [], true, sender)
  }
  const used = async () => (await scriptClient.peek([requestOf(scriptClient, 'peek', { agent: 'x', user: 'ann', cost: { tokens: 0 } })]))[0]?.usage[0]?.used
  expect((await send(1, 'a', 'first'))[0]?.outcome).toBe('run')
  expect((await send(1, 'a', 'first'))[0]?.outcome).toBe('run')
  expect(await used()).toBe(10)
  expect((await send(3, 'b', 'third'))[0]?.outcome).toBe('run')
  expect((await send(2, 'c', 'second'))[0]?.outcome).toBe('again')
  expect((await send(3, 'c', 'other'))[0]?.outcome).toBe('again')
  expect(await used()).toBe(20)
  expect((await send(4, 'c', 'fourth'))[0]?.outcome).toBe('run')
  expect(await used()).toBe(30)
})

import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { CallRequest } from '../../src/admission/request.js'
import type { RuleSpec } from '../../src/index.js'
import { AS_ESTIMATED } from '../../src/model/cost.js'
import { DEFAULTS } from '../../src/model/defaults.js'
import type { ScriptClient } from '../../src/store/redis/script-client.js'
import { scripts } from '../../src/store/redis/scripts.js'
import { snapshot } from '../support/keys.js'
import { type Namespace, newNamespace } from '../support/namespace.js'
import { givenScriptClient, realScriptClient, requestOf } from '../support/script-client.js'

const LEASE_MS = 2000
const RULES: RuleSpec[] = [
  {
    name: 'r',
    scope: 'agent',
    limits: [
      { requests: 100, per: 'hour', algorithm: 'fixed_window' },
      { concurrency: 2, lease: '2s' },
    ],
  },
]
const CALL = { agent: 'llm' }
const REFUSAL = { kind: 'refused', retryAfterMs: 500, reduceFactor: 0.5, name: { agent: 'llm' }, observed: null } as const

/** What is used of the requests and of the slots. */
async function used(scriptClient: ScriptClient): Promise<number[]> {
  const [decision] = await scriptClient.peek([requestOf(scriptClient, 'peek', CALL)])
  return decision?.usage.map((usage) => usage.used) ?? []
}

async function start(scriptClient: ScriptClient, ...requests: readonly CallRequest[]): Promise<string[]> {
  return (await scriptClient.start(requests, [], true)).map(({ outcome }) => outcome)
}

/** A start of a call by the worker that holds, or held, the lock of its job. */
function startOf(scriptClient: ScriptClient, namespace: Namespace, id: string, worker: string): CallRequest {
  return { ...requestOf(scriptClient, id, CALL, `${id}-${worker}`), lock: { key: namespace.keys.jobLock('calls', id), token: worker } }
}

function giveJob(namespace: Namespace, id: string, worker: string): Promise<unknown> {
  return namespace.redis.set(namespace.keys.jobLock('calls', id), worker, 'PX', 60_000)
}

test('the end, the renewal and the refusal of an earlier start touch nothing of a later one', async () => {
  const namespace = newNamespace()
  const { scriptClient, clock } = givenScriptClient(namespace, RULES)
  const [stale, right, other] = ['stale', 'right', 'other'].map((name) => requestOf(scriptClient, name === 'other' ? 'b' : 'a', CALL, name)) as [
    CallRequest,
    CallRequest,
    CallRequest,
  ]
  expect(await start(scriptClient, stale)).toEqual(['run'])
  clock.advance(LEASE_MS + 1)
  expect(await start(scriptClient, right, other)).toEqual(['run', 'run'])
  expect(await used(scriptClient)).toEqual([3, 2])
  // Others have the room: it is lost to the start that came too late.
  expect(await scriptClient.renew([stale, right, other])).toEqual([stale])
  expect(await scriptClient.settle([{ request: stale, actual: AS_ESTIMATED }])).toEqual([true])
  expect(await used(scriptClient)).toEqual([3, 2])
  await scriptClient.settle([right, other].map((request) => ({ request, actual: AS_ESTIMATED })))
  expect(await used(scriptClient)).toEqual([3, 0])
})

test('an earlier start and a later one of the same call hold a slot each', async () => {
  const namespace = newNamespace()
  const { scriptClient } = givenScriptClient(namespace, RULES)
  const [first, second, third] = ['first', 'second', 'third'].map((name) => requestOf(scriptClient, 'a', CALL, name)) as [CallRequest, CallRequest, CallRequest]
  expect(await start(scriptClient, first)).toEqual(['run'])
  expect(await start(scriptClient, second)).toEqual(['run'])
  expect(await used(scriptClient)).toEqual([2, 2])
  expect(await start(scriptClient, third)).toEqual(['wait'])
  await scriptClient.settle([{ request: first, actual: AS_ESTIMATED }])
  expect(await used(scriptClient)).toEqual([2, 1])
  await scriptClient.settle([{ request: second, actual: AS_ESTIMATED }])
  await scriptClient.release({ ...third, ledger: undefined, token: '' }, third.meters[0]?.line)
})

test('a slot whose lease has ended is taken back where there is room', async () => {
  const namespace = newNamespace()
  const { scriptClient, clock } = givenScriptClient(namespace, RULES)
  const [one, two, three] = ['one', 'two', 'three'].map((name) => requestOf(scriptClient, name, CALL)) as [CallRequest, CallRequest, CallRequest]
  await start(scriptClient, one, two)
  clock.advance(LEASE_MS + 1)
  expect(await start(scriptClient, three)).toEqual(['run'])
  expect(await scriptClient.renew([one, two])).toEqual([two])
  expect((await used(scriptClient))[1]).toBe(2)
  await scriptClient.settle([{ request: three, actual: AS_ESTIMATED }])
  expect(await scriptClient.renew([one, two])).toEqual([])
  expect((await used(scriptClient))[1]).toBe(2)
  await scriptClient.settle([one, two].map((request) => ({ request, actual: AS_ESTIMATED })))
})

test('a start without the lock of its job is lost, and changes nothing', async () => {
  const namespace = newNamespace()
  const { scriptClient } = givenScriptClient(namespace, RULES)
  const [stale, right] = [startOf(scriptClient, namespace, 'a', 'w1'), startOf(scriptClient, namespace, 'a', 'w2')]
  // The lock has ended, and no other worker has the job yet.
  expect(await start(scriptClient, stale)).toEqual(['lost'])
  expect(await namespace.allKeys()).toEqual([])
  await giveJob(namespace, 'a', 'w2')
  expect(await start(scriptClient, right)).toEqual(['run'])
  const before = await snapshot(namespace)
  expect(await start(scriptClient, stale)).toEqual(['lost'])
  expect(await snapshot(namespace)).toEqual(before)
  await scriptClient.settle([{ request: right, actual: AS_ESTIMATED }])
  await namespace.redis.del(namespace.keys.jobLock('calls', 'a'))
})

test('a start that was charged, and whose job was lost before it was sent again, gives its own charge back', async () => {
  const namespace = newNamespace()
  const { scriptClient } = givenScriptClient(namespace, RULES)
  const [stale, right] = [startOf(scriptClient, namespace, 'a', 'w1'), startOf(scriptClient, namespace, 'a', 'w2')]
  await giveJob(namespace, 'a', 'w1')
  expect(await start(scriptClient, stale)).toEqual(['run'])
  await giveJob(namespace, 'a', 'w2')
  expect(await start(scriptClient, right, stale)).toEqual(['run', 'lost'])
  expect(await used(scriptClient)).toEqual([2, 2])
  expect(await scriptClient.release(stale)).toBe('S')
  expect(await used(scriptClient)).toEqual([1, 1])
  await scriptClient.settle([{ request: right, actual: AS_ESTIMATED }])
  await namespace.redis.del(namespace.keys.jobLock('calls', 'a'))
})

test('the refusal and the cancellation of a worker that lost its job leave the place of its call', async () => {
  const namespace = newNamespace()
  const { scriptClient, clock } = givenScriptClient(namespace, RULES)
  const [stale, right] = [startOf(scriptClient, namespace, 'a', 'w1'), startOf(scriptClient, namespace, 'a', 'w2')]
  const others = ['b', 'c'].map((id) => requestOf(scriptClient, id, CALL))
  await giveJob(namespace, 'a', 'w1')
  expect(await start(scriptClient, stale)).toEqual(['run'])
  clock.advance(LEASE_MS + 1)
  await giveJob(namespace, 'a', 'w2')
  expect(await start(scriptClient, ...others)).toEqual(['run', 'run'])
  expect(await start(scriptClient, right)).toEqual(['wait'])
  const record = await scriptClient.recordOf(right.id)
  expect(record).toMatch(/^W /)
  expect((await scriptClient.returnCall(stale, REFUSAL, 10)).blockedUntilMs).toBeGreaterThan(clock.nowMs)
  expect(await scriptClient.recordOf(right.id)).toBe(record)
  expect(await used(scriptClient)).toEqual([2, 2])
  expect(await scriptClient.release({ ...stale, ledger: undefined, token: '' }, right.meters[0]?.line)).toBe('-')
  expect(await scriptClient.recordOf(right.id)).toBe(record)
  expect(await scriptClient.release({ ...right, ledger: undefined, token: '' }, right.meters[0]?.line)).toBe('W')
  await scriptClient.settle(others.map((request) => ({ request, actual: AS_ESTIMATED })))
  await namespace.redis.del(namespace.keys.jobLock('calls', 'a'))
})

test('a call whose cost was settled while its handler goes on keeps its slot until that has ended', async () => {
  const namespace = newNamespace()
  const { scriptClient, clock } = givenScriptClient(namespace, RULES)
  const request = requestOf(scriptClient, 'a', CALL)
  const end = [{ request, actual: AS_ESTIMATED }]
  await start(scriptClient, request)
  expect(await scriptClient.settle(end, 'cost')).toEqual([true])
  expect(await used(scriptClient)).toEqual([1, 1])
  clock.advance(LEASE_MS - 1)
  expect(await scriptClient.renew([request])).toEqual([])
  clock.advance(LEASE_MS - 1)
  expect(await used(scriptClient)).toEqual([1, 1])
  expect(await scriptClient.settle(end, 'slots')).toEqual([true])
  expect(await scriptClient.settle(end, 'slots')).toEqual([false])
  expect(await used(scriptClient)).toEqual([1, 0])
})

/** A worker, or another process, gives its sign. */
function beat(namespace: Namespace, who: 'worker' | 'app'): Promise<unknown> {
  const { redis, keys } = namespace
  return who === 'worker'
    ? scripts.lease.run(redis, [keys.dispatcher, keys.pulse], ['w', DEFAULTS.dispatcherLeaseMs])
    : scripts.heartbeat.run(redis, [keys.members, keys.pulse], ['', 'm', DEFAULTS.memberMs, 0])
}

test.each(['worker', 'app'] as const)(
  'after all workers were silent for half a lease no slot is given for two seconds from the first sign: that of a %s',
  async (who) => {
    const namespace = newNamespace()
    const scriptClient = realScriptClient(namespace, RULES)
    const long = realScriptClient(namespace, [{ name: 'long', scope: 'agent', limits: [{ concurrency: 1, lease: '30s' }] }])
    const request = requestOf(scriptClient, 'a', CALL)
    await beat(namespace, 'worker')
    await sleep(LEASE_MS / 2 + 20)
    // No sign has come yet: the first command may be a start.
    expect((await scriptClient.check([request]))[0]).toMatchObject({ outcome: 'reject', binding: { unit: 'concurrency' } })
    await beat(namespace, who)
    const backMs = performance.now()
    expect((await scriptClient.check([request]))[0]).toMatchObject({ outcome: 'reject', binding: { unit: 'concurrency' } })
    // The leases of other limits have hardly begun.
    const other = requestOf(long, 'b', CALL)
    expect((await long.check([other]))[0]?.outcome).toBe('run')
    // As often as they do it.
    const beatUntil = async (ms: number) => {
      for (; performance.now() - backMs < ms; await sleep(100)) await beat(namespace, who)
    }
    await beatUntil(DEFAULTS.slotGraceMs - 400)
    expect((await scriptClient.check([request]))[0]?.outcome).toBe('reject')
    await beatUntil(DEFAULTS.slotGraceMs + 20)
    expect((await scriptClient.check([request]))[0]?.outcome).toBe('run')
    await scriptClient.settle([{ request, actual: AS_ESTIMATED }])
    await long.settle([{ request: other, actual: AS_ESTIMATED }])
  },
)

test('a namespace without workers, and one whose last worker has left, gives slots at any time', async () => {
  const namespace = newNamespace()
  const { redis, keys } = namespace
  const scriptClient = realScriptClient(namespace, RULES)
  const [one, two] = ['a', 'b'].map((id) => requestOf(scriptClient, id, CALL)) as [CallRequest, CallRequest]
  await beat(namespace, 'app')
  await sleep(LEASE_MS / 2 + 20)
  expect((await scriptClient.check([one]))[0]?.outcome).toBe('run')
  await beat(namespace, 'worker')
  await scripts.lease.run(redis, [keys.dispatcher, keys.pulse], ['w', 0])
  await sleep(LEASE_MS / 2 + 20)
  expect((await scriptClient.check([two]))[0]?.outcome).toBe('run')
  await scriptClient.settle([one, two].map((request) => ({ request, actual: AS_ESTIMATED })))
})

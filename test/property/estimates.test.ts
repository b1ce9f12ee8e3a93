import { expect, test } from 'vitest'
import type { Call, RuleSpec } from '../../src/index.js'
import type { GivenClock } from '../../src/model/time.js'
import { readRecord } from '../../src/queue/stored-call.js'
import type { ScriptClient } from '../../src/store/redis/script-client.js'
import { newNamespace } from '../support/namespace.js'
import { decideBy, givenScriptClient, requestOf } from '../support/script-client.js'
import { SimulatedQueue } from '../support/simulated-queue.js'

/** By how much a start may miss what its app was told. */
const LOOKAHEAD_MS = 60

/** When a call in line starts, in ms of the clock; undefined where it does not stand in one. */
async function told(scriptClient: ScriptClient, clock: GivenClock, id: string, call: Call): Promise<{ fromMs: number; toMs: number } | undefined> {
  const request = requestOf(scriptClient, id, call)
  const line = readRecord(await scriptClient.recordOf(request.id))?.line ?? ''
  const [decision] = await scriptClient.explain([request], [line])
  if (decision?.outcome !== 'wait' || decision.etaMs === null) return undefined
  return { fromMs: clock.nowMs + decision.etaMs, toMs: decision.etaMaxMs === null ? Number.POSITIVE_INFINITY : clock.nowMs + decision.etaMaxMs }
}

const ALGORITHMS = ['token_bucket', 'leaky_bucket', 'fixed_window', 'sliding_window', 'sliding_log'] as const

test.each(ALGORITHMS)('%s: the front door and explain tell a call that has just come one time', async (algorithm) => {
  const namespace = newNamespace()
  const { scriptClient } = givenScriptClient(namespace, [
    { name: 'account', scope: 'agent', limits: [{ requests: 10, per: '2s', algorithm }] },
    { name: 'user', scope: 'user', limits: [{ requests: 20, per: 'minute' }] },
  ])
  for (let n = 0; n < 40; n++) {
    const request = requestOf(scriptClient, `c${n}`, { agent: 'a', user: 'u' })
    const [decision] = await decideBy(scriptClient, 'enqueue', [request])
    if (decision?.outcome !== 'wait') continue
    const [explained] = await scriptClient.explain([request], [readRecord(await scriptClient.recordOf(request.id))?.line ?? ''])
    const { position, binding } = decision
    expect(explained).toMatchObject({ outcome: 'wait', position, binding })
    const { etaMs, etaMaxMs } = explained as typeof decision
    expect(etaMs).toBeCloseTo(decision.etaMs as number, 1)
    expect(etaMaxMs).toBeCloseTo(decision.etaMaxMs as number, 1)
  }
  await namespace.redis.del(await namespace.allKeys())
})

const USERS = ['u1', 'u2', 'u3', 'u4', 'u1', 'u1']

test.each(ALGORITHMS)('%s: users under one account start when they were told, each one in the order of its calls', { timeout: 120_000 }, async (algorithm) => {
  const namespace = newNamespace()
  const rules: RuleSpec[] = [
    { name: 'user', scope: 'user', limits: [{ requests: 20, per: '2s', algorithm }] },
    { name: 'account', scope: 'agent', limits: [{ requests: 25, per: 'second', burst: 10 }] },
  ]
  const { scriptClient, clock } = givenScriptClient(namespace, rules)
  const queue = new SimulatedQueue({ namespace, scriptClient, clock })
  const calls = Array.from({ length: 300 }, (_, n) => ({ id: `c${n}`, call: { agent: 'a', user: USERS[n % USERS.length] as string } }))
  const promised = new Map<string, { fromMs: number; toMs: number }>()
  for (let from = 0; from < calls.length; from += 50) {
    const round = calls.slice(from, from + 50)
    await queue.enqueue(round)
    for (const { id, call } of round.filter((_, n) => n % 5 === 0)) {
      const range = await told(scriptClient, clock, id, call)
      if (range !== undefined) promised.set(id, range)
    }
    await queue.runFor(300)
  }
  await queue.runFor(22_000)
  expect(queue.starts).toHaveLength(300)
  const started = new Map(queue.starts.map(({ id, atMs }) => [id.replace('calls/', ''), atMs]))
  const missed = [...promised].filter(([id, { fromMs, toMs }]) => {
    const atMs = started.get(id) as number
    return atMs < fromMs - LOOKAHEAD_MS || atMs > toMs + LOOKAHEAD_MS
  })
  expect(promised.size).toBeGreaterThan(40)
  expect(missed).toEqual([])
  for (const user of new Set(USERS)) {
    const times = calls.filter(({ call }) => call.user === user).map(({ id }) => started.get(id) as number)
    // Two that were woken together may be held for each other's slots.
    for (const [n, atMs] of times.entries()) expect(atMs).toBeGreaterThanOrEqual((times[n - 1] ?? 0) - LOOKAHEAD_MS)
  }
})

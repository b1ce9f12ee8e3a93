import { expect, test } from 'vitest'
import { TollgateError, UpstreamLimited } from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'
import { codeOf } from '../support/place.js'
import { until } from '../support/until.js'

const ONE_AT_A_TIME = [{ name: 'slots', scope: 'agent', limits: [{ concurrency: 1 }] }]

test('held calls and queued calls stand in one line, in the order of arrival, and are woken as they end', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: ONE_AT_A_TIME })
  const order: string[] = []
  let end = () => {}
  const held = tollgate.hold()
  const first = held.run({ agent: 'a' }, async () => {
    order.push('held 1')
    await new Promise<void>((resolve) => {
      end = resolve
    })
    return 1
  })
  await until('the first runs', () => order.length === 1)
  tollgate.worker(async () => order.push('queued'))
  const queued = await tollgate.enqueue({ agent: 'a' })
  let id = ''
  const second = held.run({ agent: 'a', payload: { secret: 'words' } }, async ({ payload }) => order.push(`held 2 ${JSON.stringify(payload)}`), {
    waiting: (of) => {
      id = of
    },
  })
  await until('the second waits', () => id !== '')
  expect(await tollgate.explain(id)).toMatchObject({ state: 'waiting', position: 1, binding: { rule: 'slots' } })
  for (const key of await namespace.allKeys()) if (key.includes(id)) expect(JSON.stringify(await namespace.redis.dump(key))).not.toContain('words')
  end()
  expect(await first).toBe(1)
  await Promise.all([queued.result(), second])
  expect(order).toEqual(['held 1', 'queued', 'held 2 {"secret":"words"}'])
})

test('the usage in the result settles a held call, and a refusal throws as an enqueue does', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({
    rules: [{ name: 'r', scope: 'agent', strategy: 'hard', limits: [{ tokens: 100, per: 'day', algorithm: 'fixed_window' }] }],
  })
  const held = tollgate.hold()
  await held.run({ agent: 'a', cost: { tokens: 90 } }, async () => ({ usage: { tokens: 7 } }))
  const used = async () => (await tollgate.gate.peek({ agent: 'a', cost: { tokens: 0 } })).usage[0]?.used
  await until('it is settled', async () => (await used()) === 7)
  expect(await codeOf(held.run({ agent: 'a', cost: { tokens: 95 } }, async () => 1))).toBe('RATE_LIMIT_EXCEEDED')
  const failing = held.run({ agent: 'a', cost: { tokens: 5 } }, async () => {
    throw new TollgateError('UPSTREAM_FAILED', 'the agent answered 500')
  })
  expect(await codeOf(failing)).toBe('UPSTREAM_FAILED')
  expect(await codeOf(held.run({ agent: 'a', cost: { tokens: 1 } }, () => Promise.reject(new TypeError('odd'))))).toMatch(/odd/)
})

test('a held call leaves its line when its signal aborts, when another process cancels it, when its deadline passes, and when its process closes', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: ONE_AT_A_TIME })
  const other = await namespace.open()
  let end = () => {}
  const held = tollgate.hold()
  const running = held.run(
    { agent: 'a' },
    () =>
      new Promise<string>((resolve) => {
        end = () => resolve('done')
      }),
  )
  await until('it runs', () => held.size === 1 && end.name !== '')
  const ids: string[] = []
  const run = (options: { signal?: AbortSignal; maxWaitMs?: number } = {}) => {
    const waiting = held.run({ agent: 'a', maxWaitMs: options.maxWaitMs }, async () => 'never', { signal: options.signal, waiting: (id) => ids.push(id) })
    waiting.catch(() => {})
    return waiting
  }
  const aborter = new AbortController()
  const aborted = run({ signal: aborter.signal })
  await until('it waits', () => ids.length === 1)
  const cancelled = run()
  await until('it waits', () => ids.length === 2)
  const late = run({ maxWaitMs: 200 })
  await until('it waits', () => ids.length === 3)
  const closed = run()
  await until('it waits', () => ids.length === 4)
  aborter.abort(new Error('gone'))
  expect(await codeOf(aborted)).toBe('Error: gone')
  expect(await other.explain(ids[1] as string)).toMatchObject({ state: 'waiting' })
  expect(await other.cancel(ids[1] as string)).toBe(true)
  expect(await codeOf(cancelled)).toBe('CALL_CANCELLED')
  expect(await codeOf(late)).toBe('CALL_EXPIRED')
  await until('the last one is first in line', async () => (await tollgate.explain(ids[3] as string)).position === 0)
  const closing = tollgate.close()
  expect(await codeOf(closed)).toBe('CLOSED')
  end()
  expect(await running).toBe('done')
  await closing
  expect((await namespace.allKeys()).filter((key) => key.includes('held-') || key === namespace.keys.held)).toEqual([])
  expect((await other.gate.peek({ agent: 'a' })).remaining).toBe(1)
})

test('a held call returns to its line as often as a queued one, before its agent has refused it too often', async () => {
  const tollgate = await newNamespace().open({ rules: ONE_AT_A_TIME })
  const tries = { held: 0, queued: 0 }
  const refusing = (which: keyof typeof tries) => async () => {
    tries[which]++
    throw new UpstreamLimited({ retryAfterMs: 1 })
  }
  expect(await codeOf(tollgate.hold().run({ agent: 'a', maxReturns: 2 }, refusing('held')))).toBe('UPSTREAM_REFUSED')
  tollgate.worker(refusing('queued'))
  const ticket = await tollgate.enqueue({ agent: 'b', maxReturns: 2 })
  expect(await codeOf(ticket.result())).toBe('UPSTREAM_REFUSED')
  expect(tries).toEqual({ held: 3, queued: 3 })
})

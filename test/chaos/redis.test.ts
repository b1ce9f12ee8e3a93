import { expect, onTestFinished, test } from 'vitest'
import { Tollgate } from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'
import { startRedis } from '../support/redis-server.js'
import { until } from '../support/until.js'

const RULES = [
  {
    name: 'r',
    scope: 'agent',
    limits: [
      { requests: 300, per: 'second', burst: 30 },
      { concurrency: 20, lease: '2s' },
    ],
  },
]

test('a Redis that is killed and comes back with its data loses no call', { timeout: 120_000 }, async () => {
  const server = await startRedis()
  onTestFinished(() => server.stop())
  const namespace = newNamespace(server.url)
  const tollgate = await namespace.open({ rules: RULES })
  const done = new Map<number, number>()
  tollgate.worker(
    async (call) => {
      const { index } = call.payload as { index: number }
      done.set(index, (done.get(index) ?? 0) + 1)
    },
    { leaseMs: 2000 },
  )
  await tollgate.enqueueMany(Array.from({ length: 1500 }, (_, index) => ({ agent: 'llm', payload: { index } })))
  for (const moment of [300, 900]) {
    await until(`${moment} calls are done`, () => done.size >= moment)
    await server.restart()
  }
  await until('every call is done', () => done.size === 1500, 60_000)
  await until(
    'no job is left',
    async () => (await namespace.redis.exists(`${tollgate.prefix}:calls:wait`, `${tollgate.prefix}:calls:active`, `${tollgate.prefix}:calls:delayed`)) === 0,
  )
  // A call runs again where Redis was killed before it knew of the call's end: at most those that ran at a kill.
  expect([...done.values()].reduce((sum, times) => sum + times, 0)).toBeLessThanOrEqual(1500 + 2 * 50)
})

test('scripts that Redis has forgotten are loaded again in mid-run', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  let done = 0
  tollgate.worker(async () => void done++)
  await tollgate.enqueueMany(Array.from({ length: 600 }, () => ({ agent: 'llm' })))
  for (const moment of [100, 200, 300, 400]) {
    await until(`${moment} calls are done`, () => done >= moment)
    await namespace.redis.script('FLUSH')
    await namespace.redis.function('FLUSH')
  }
  await until('every call is done', () => done === 600)
  expect(done).toBe(600)
})

test('a Redis user without the right to load functions gets scripts, which are loaded again after SCRIPT FLUSH', async () => {
  const server = await startRedis()
  onTestFinished(() => server.stop())
  const namespace = newNamespace(server.url)
  await namespace.redis.call('ACL', 'SETUSER', 'plain', 'on', '>secret', '~*', '&*', '+@all', '-fcall', '-function')
  const tollgate = await Tollgate.open({
    redis: server.url.replace('redis://', 'redis://plain:secret@'),
    namespace: namespace.name,
    rules: RULES,
  })
  onTestFinished(() => tollgate.close())
  let done = 0
  tollgate.worker(async () => void done++)
  await tollgate.enqueueMany(Array.from({ length: 100 }, () => ({ agent: 'llm' })))
  await until('some calls are done', () => done >= 40)
  await namespace.redis.script('FLUSH')
  await until('every call is done', () => done === 100)
  expect(await namespace.redis.function('LIST')).toEqual([])
})

test('rules that change in mid-run count at once, keep usage, and wake the calls that wait', async () => {
  const namespace = newNamespace()
  const rule = (requests: number) => [
    {
      name: 'r',
      scope: 'agent',
      limits: [
        { requests, per: 'hour', algorithm: 'fixed_window' as const },
        { tokens: 1000, per: 'hour' },
      ],
    },
  ]
  const tollgate = await namespace.open({ rules: rule(10) })
  let done = 0
  tollgate.worker(async () => void done++)
  await tollgate.enqueueMany(Array.from({ length: 30 }, () => ({ agent: 'llm', cost: { tokens: 1 } })))
  await until('the limit is reached', () => done === 10)
  // By another process of the namespace.
  const other = await namespace.open()
  await other.rules.apply(rule(25))
  await until('waiting calls have used the new room', () => done === 25)
  const [requests, tokens] = (await tollgate.gate.peek({ agent: 'llm', cost: { tokens: 1 } })).usage
  expect(requests).toMatchObject({ capacity: 25, used: 25 })
  expect(tokens?.used).toBeGreaterThan(24)
  await other.rules.apply([])
  await until('nothing limits the rest', () => done === 30)
})

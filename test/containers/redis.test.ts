import { setTimeout as sleep } from 'node:timers/promises'
import { GenericContainer, Network, type StartedNetwork, type StartedTestContainer, Wait } from 'testcontainers'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Enqueueing } from '../support/enqueueing.js'
import { newNamespace } from '../support/namespace.js'
import { untilAway, untilBack } from '../support/outage.js'
import { until } from '../support/until.js'
import { docker, redisImage, whyNoEngine } from './support/engine.js'

const PORT = 6379
const FLAGS = ['--appendonly', 'yes', '--appendfsync', 'always', '--maxmemory-policy', 'noeviction', '--protected-mode', 'no', '--bind', '0.0.0.0']
const PER_HOUR = 100_000

const none = whyNoEngine()
if (none !== undefined) console.warn(`Redis in containers is not tried: ${none}`)

describe.skipIf(none !== undefined)('a Redis in a container', () => {
  let network: StartedNetwork
  let container: StartedTestContainer
  let url: string

  beforeAll(async () => {
    const image = await redisImage()
    network = await new Network().start()
    container = await new GenericContainer(image)
      .withNetwork(network)
      .withCommand(image.startsWith('redis:') ? ['redis-server', ...FLAGS] : FLAGS)
      .withWaitStrategy(Wait.forLogMessage('Ready to accept connections'))
      .start()
    url = `redis://${container.getIpAddress(network.getName())}:${PORT}`
  }, 240_000)
  afterAll(async () => {
    await container?.stop()
    await network?.stop()
  })

  const id = () => container.getId()
  const WAYS: readonly { how: string; begin: () => Promise<unknown>; end: () => Promise<unknown> }[] = [
    { how: 'paused', begin: () => docker(['pause', id()]), end: () => docker(['unpause', id()]) },
    { how: 'killed', begin: () => docker(['kill', id()]), end: () => docker(['start', id()]) },
    { how: 'restarted', begin: () => docker(['restart', '--time', '1', id()]), end: async () => {} },
    {
      how: 'cut off',
      begin: () => docker(['network', 'disconnect', network.getId(), id()]),
      end: () => docker(['network', 'connect', network.getId(), id()]),
    },
  ]

  test.each(WAYS)('that is $how loses no call, and is told what was let in meanwhile', async ({ begin, end }) => {
    const namespace = newNamespace(url)
    const rules = [{ name: 'account', scope: 'agent' as const, limits: [{ requests: PER_HOUR, per: 'hour' as const, algorithm: 'fixed_window' as const }] }]
    const tollgate = await namespace.open({ rules, storeTimeoutMs: 300 })
    const workers = await namespace.open({ storeTimeoutMs: 300 })
    const ran = new Map<string, number>()
    workers.worker(
      async (call) => {
        const name = String(call.payload)
        ran.set(name, (ran.get(name) ?? 0) + 1)
        await sleep(20)
        return null
      },
      { leaseMs: 2000 },
    )
    const calls = new Enqueueing(tollgate, () => 5)
    const { accepted } = calls
    await until('calls have run', () => ran.size > 20)
    const outage = untilAway(tollgate)
    await begin()
    await outage
    const grant = await tollgate.gate.admit({ agent: 'llm' })
    expect(grant.allowed).toBe(true)
    await end()
    await untilBack(tollgate)
    const before = ran.size
    await until('calls run again', () => ran.size > before + 20)
    await calls.end()
    await until('every accepted call has run', () => accepted.every((name) => ran.has(name)))
    // The workers have let in calls, too.
    await untilBack(workers)
    await until('no job is left', async () => (await namespace.redis.llen(`${namespace.keys.prefix}:calls:active`)) === 0)
    const [requests] = (await tollgate.gate.peek({ agent: 'llm' })).usage
    expect(requests?.used).toBeGreaterThanOrEqual(accepted.length + 1)
  })
})

import { expect, onTestFinished, test } from 'vitest'
import type { UpstreamChange } from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'
import { type NatsServer, newNats } from '../support/nats-server.js'
import { until } from '../support/until.js'

const NAME = { agent: 'llm', model: 'm' }

async function nats(): Promise<NatsServer> {
  const server = await newNats()
  onTestFinished(() => server.kill())
  return server
}

/** Two Tollgates that exchange news by NATS, and the news that reaches the second. */
async function two(server: NatsServer) {
  const namespace = newNamespace()
  const one = await namespace.open({ bus: server.url })
  const other = await namespace.open({ bus: server.url })
  const heard: UpstreamChange[] = []
  other.capacity.on('change', (change) => heard.push(change))
  return { one, other, heard }
}

test('news of an agent reaches other processes by NATS', async () => {
  const server = await nats()
  await server.start()
  const { one, heard } = await two(server)
  await until('it is heard', async () => {
    await one.capacity.announce({ ...NAME, retryAfterMs: 1000 })
    return heard.length > 0
  })
  expect(heard[0]).toMatchObject({ ...NAME, kind: 'refused', state: 'blocked', factor: 0.5 })
  expect(heard[0]?.cutAt).toBeInstanceOf(Date)
})

test('a NATS that is away at the start does no harm: Redis decides, and news comes when it is there', async () => {
  const server = await nats()
  const { one, other, heard } = await two(server)
  await one.capacity.announce({ ...NAME, retryAfterMs: 60_000 })
  expect((await other.gate.admit(NAME)).limitExceeded).toBe('~block/retry-after')
  expect(heard).toEqual([])
  await server.start()
  await until('it is heard', async () => {
    await one.capacity.announce({ ...NAME, retryAfterMs: 1000 })
    return heard.length > 0
  })
})

test('after a NATS is killed and started again, news reaches other processes again', async () => {
  const server = await nats()
  await server.start()
  const { one, other, heard } = await two(server)
  const news = async () => {
    await one.capacity.announce({ ...NAME, retryAfterMs: 1000 })
    return heard.length > 0
  }
  await until('it is heard', news)
  await server.kill()
  await one.capacity.announce({ ...NAME, retryAfterMs: 90_000 })
  expect((await other.gate.admit(NAME)).retryAfterMs).toBeGreaterThan(80_000)
  heard.length = 0
  await server.start()
  await until('it is heard again', news)
})

test('closing does not wait for a NATS that never started', async () => {
  const server = await nats()
  const { one, other } = await two(server)
  const beginMs = performance.now()
  await Promise.all([one.close(), other.close()])
  expect(performance.now() - beginMs).toBeLessThan(10_000)
})

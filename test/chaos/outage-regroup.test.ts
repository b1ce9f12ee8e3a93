import { expect, test } from 'vitest'
import { DEFAULTS } from '../../src/model/defaults.js'
import type { Namespace } from '../support/namespace.js'
import { ownRedis, untilAway } from '../support/outage.js'
import { until } from '../support/until.js'

const LOCAL = { onStoreError: 'local', storeTimeoutMs: 150 } as const

/** Enters a process that gave a sign of life right now, and never will again. @returns until when it counts, by Redis' clock */
async function enter({ redis, keys }: Namespace, name: string): Promise<number> {
  const untilMs = (await now(redis)) + DEFAULTS.memberMs
  await redis.zadd(keys.members, String(untilMs), name)
  return untilMs
}

async function now(redis: Namespace['redis']): Promise<number> {
  return Number((await redis.time())[0]) * 1000
}

test('a process that died with its Redis keeps the others on their shares for a moment, not until it is out of count', async () => {
  const { server, namespace } = await ownRedis()
  const { redis, keys } = namespace
  const tollgate = await namespace.open(LOCAL)
  const [own = ''] = await redis.zrange(keys.members, '0', '-1')
  await enter(namespace, 'dead')
  const heard = await redis.zscore(keys.members, own)
  await until('the process has heard of the other', async () => (await redis.zscore(keys.members, own)) !== heard)
  const countsUntilMs = await enter(namespace, 'dead')
  server.pause()
  await untilAway(tollgate)
  server.resume()
  await until('Redis decides again', () => !tollgate.stats.outage().away)
  expect(await now(redis)).toBeLessThan(countsUntilMs - DEFAULTS.memberMs / 5)
})

test('a process that knew of no other says that it has reported before Redis decides again: others may wait for that', async () => {
  const { server, namespace } = await ownRedis()
  const tollgate = await namespace.open(LOCAL)
  server.pause()
  await untilAway(tollgate)
  server.resume()
  await until('Redis decides again', () => !tollgate.stats.outage().away)
  const members = await namespace.redis.zrange(namespace.keys.members, '0', '-1')
  expect(members.map((name) => name[0])).not.toContain('~')
})

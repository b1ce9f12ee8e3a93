import type { Redis } from 'ioredis'
import { meterRequest } from '../admission/request.js'
import { NOTHING } from '../model/cost.js'
import { DEFAULTS } from '../model/defaults.js'
import { approximateMs, type Clock } from '../model/time.js'
import type { Keys } from '../redis/keys.js'
import { BatchEncoder } from '../store/redis/encoder.js'
import { scripts } from '../store/redis/scripts.js'
import type { Takings } from './books.js'

/** Charges in Redis what was used while it was away; once under one name. */
export async function mergeUsage(redis: Redis, keys: Keys, clock: Clock, name: string, { meters, open }: Takings): Promise<void> {
  const encoder = new BatchEncoder(keys, approximateMs(clock))
  for (const { part } of meters) {
    encoder.force(meterRequest({ meters: [part], costs: NOTHING, counted: [] }, name), false)
  }
  for (const { request } of open) encoder.force(request, false)
  const amounts = [...meters.map((one) => one.amounts), ...open.map(({ runs }) => (runs ? 0 : 1))]
  const batch = encoder.batch()
  await scripts.mergeUsage.run(redis, [...encoder.keys, keys.absorbed(name)], [clock.forScripts(), batch, DEFAULTS.absorbedMs, JSON.stringify(amounts)])
}

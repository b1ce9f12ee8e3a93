import type { Redis } from 'ioredis'
import { NOTHING } from '../model/cost.js'
import { DEFAULTS } from '../model/defaults.js'
import { approximateMs, type Clock } from '../model/time.js'
import type { Keys } from '../redis/keys.js'
import { BatchEncoder } from '../store/redis/encoder.js'
import { scripts } from '../store/redis/scripts.js'
import type { Takings } from './books.js'

/** Charges in Redis what was used while it was away; once under one name. */
export async function absorb(redis: Redis, keys: Keys, clock: Clock, name: string, { meters, open }: Takings): Promise<void> {
  const encoder = new BatchEncoder(keys, approximateMs(clock), true)
  for (const { part } of meters) {
    encoder.ask({ id: name, token: '', forGood: true, call: {}, demand: { parts: [part], costs: NOTHING, counted: [] } }, false)
  }
  for (const { asked } of open) encoder.ask(asked, false)
  const amounts = [...meters.map((one) => one.amounts), ...open.map(({ runs }) => (runs ? 0 : 1))]
  const batch = encoder.batch()
  await scripts.absorb.run(redis, [...encoder.keys, keys.absorbed(name)], [clock.forScripts(), batch, DEFAULTS.absorbedMs, JSON.stringify(amounts)])
}

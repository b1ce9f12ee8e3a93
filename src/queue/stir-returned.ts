import type { Redis } from 'ioredis'
import { SECOND } from '../model/time.js'
import { type UpstreamName, upstreamKey } from '../model/upstream.js'
import type { Keys } from '../redis/keys.js'
import { readRecord } from './stored-call.js'

const SCAN_COUNT = 200

/**
 * Lets calls be tried now that their agent has refused, and that wait alone for the time that it asked for. It looks at all lines: an operator asks for it
 * by hand. If the process dies meanwhile, the calls that are left go at their time.
 */
export async function stirReturned(redis: Redis, keys: Keys, name: UpstreamName): Promise<void> {
  const pattern = keys.ownLine('*').replace(/[{}[\]\\]/g, '\\$&')
  const nowMs = String(Number((await redis.time())[0]) * SECOND)
  let cursor = '0'
  do {
    const [next, flat] = await redis.zscan(keys.lines, cursor, 'MATCH', pattern, 'COUNT', SCAN_COUNT)
    cursor = next
    const lines = flat.filter((_, index) => index % 2 === 0)
    const records = lines.length === 0 ? [] : await redis.mget(lines.map((line) => keys.call(line.slice(keys.ownLine('').length))))
    const due = lines.filter((_, n) => {
      const call = readRecord(records[n] ?? null)?.call
      return call !== null && call !== undefined && upstreamKey(call) === upstreamKey(name)
    })
    if (due.length > 0) await redis.zadd(keys.lines, 'XX', 'LT', ...due.flatMap((line) => [nowMs, line]))
  } while (cursor !== '0')
  await redis.publish(keys.wake, nowMs)
}

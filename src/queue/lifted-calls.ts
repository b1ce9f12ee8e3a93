import { setTimeout as sleep } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import { DEFAULTS } from '../model/defaults.js'
import type { ScriptClient } from '../store/redis/script-client.js'
import type { Queues } from './queues.js'
import { readRecord } from './stored-call.js'

/** How many waiting calls are read in one round trip. */
const READ_AT_ONCE = 500

/** Sends the waiting calls to workers that an override lifts every rule for. Returns how many there were. */
async function promoteLifted(redis: Redis, { keys, resolver }: ScriptClient, queues: Queues): Promise<number> {
  let promoted = 0
  for (const line of await redis.zrange(keys.lines, '0', '-1')) {
    for (let from = 0; ; from += READ_AT_ONCE) {
      const ids = await redis.zrange(line, String(from), String(from + READ_AT_ONCE - 1))
      const records = ids.length === 0 ? [] : await redis.mget(ids.map((id) => keys.call(id)))
      const lifted = ids.filter((_, index) => {
        const call = readRecord(records[index] ?? null)?.call
        return call !== null && call !== undefined && resolver.rules.overrideIndex.liftingAny(call).length > 0
      })
      promoted += (await queues.promote(lifted)).filter(Boolean).length
      if (ids.length < READ_AT_ONCE) break
    }
  }
  return promoted
}

/**
 * After an override that lifts every rule for somebody was granted: whose calls stand in lines of others, behind calls that still have to wait, and
 * lines are looked at from their fronts. So the process that granted it sends their jobs to workers, where they start like any call with room; a second
 * time when every worker knows the override. If the process dies before, they start when they come to the front, or their jobs come back.
 */
export async function startLifted(redis: Redis, scriptClient: ScriptClient, queues: Queues): Promise<void> {
  if ((await promoteLifted(redis, scriptClient, queues)) === 0) return
  await sleep(DEFAULTS.lookAgainMs)
  await promoteLifted(redis, scriptClient, queues)
}

import type { Redis } from 'ioredis'
import { withoutArguments } from '../model/secrets.js'
import { type Clock, SECOND } from '../model/time.js'

/** The replies to a pipeline, in its order. @throws the first error among them, without the arguments of its command */
export async function repliesTo(pipeline: ReturnType<Redis['pipeline']>): Promise<unknown[]> {
  if (pipeline.length === 0) return []
  return ((await pipeline.exec()) ?? []).map(([error, value]) => {
    if (error) throw withoutArguments(error)
    return value
  })
}

/** What the clock of scripts shows: the given one, or Redis'; in ms, with fractions. */
export async function storeNowMs(redis: Redis, clock: Clock): Promise<number> {
  const given = clock.forScripts()
  if (given !== '') return Number(given)
  const [seconds, micros] = await redis.time()
  return Number(seconds) * SECOND + Number(micros) / 1000
}

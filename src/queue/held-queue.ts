import { randomBytes } from 'node:crypto'
import type { Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import type { ScriptClient } from '../store/redis/script-client.js'
import { recordId, releaseStored } from './stored-call.js'

const HELD_ID = /^(held-[0-9a-f]{12})\./

/** The queue of the process that holds the call of this id; undefined where no process holds it. */
export function heldQueueOf(id: unknown): string | undefined {
  return typeof id === 'string' ? HELD_ID.exec(id)?.[1] : undefined
}

export function newHeldQueue(): string {
  return `held-${randomBytes(6).toString('hex')}`
}

/** Gives up the held calls of processes that gave no sign of life for `heldSilenceMs`. Two processes that do so at once do no harm. */
export async function sweepHeld(scriptClient: ScriptClient, redis: Redis, queueOf: (name: string) => Queue): Promise<void> {
  const [seconds] = await redis.time()
  const dead = await redis.zrange(scriptClient.keys.held, '-inf', String(Number(seconds) * 1000), 'BYSCORE', 'LIMIT', 0, 100)
  for (const name of dead) await giveUpHeld(scriptClient, redis, queueOf(name))
}

/** Takes all calls of a queue of held calls out of their lines, then removes the queue. A call that had started stays charged. */
export async function giveUpHeld(scriptClient: ScriptClient, redis: Redis, queue: Queue): Promise<void> {
  const { keys } = scriptClient
  const ids = [
    ...(await redis.lrange(queue.toKey('wait'), 0, -1)),
    ...(await redis.lrange(queue.toKey('active'), 0, -1)),
    ...(await redis.zrange(queue.toKey('delayed'), '0', '-1')),
    ...(await redis.zrange(queue.toKey('prioritized'), '0', '-1')),
  ].map((id) => recordId(queue.name, id))
  for (const id of ids) await releaseStored(scriptClient, id)
  await queue.obliterate({ force: true })
  await redis.zrem(keys.held, queue.name)
}

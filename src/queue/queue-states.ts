import type { Redis } from 'ioredis'
import type { WaitReason } from '../model/wait-reason.js'
import type { Keys } from '../redis/keys.js'
import { parseReport } from './queue-places.js'

/** How long what was read of a queue counts: many calls that are explained together read it once. */
const REMEMBERED_MS = 200

/** Why a queue takes no calls at the moment, by the last reports of its workers. */
export class QueueStates {
  private readonly known = new Map<string, { readonly atMs: number; readonly reason: Promise<WaitReason | null> }>()

  constructor(
    private readonly redis: Redis,
    private readonly keys: Keys,
  ) {}

  /** Null where a worker has a free place. */
  reason(queue: string): Promise<WaitReason | null> {
    const atMs = performance.now()
    const known = this.known.get(queue)
    if (known !== undefined && atMs - known.atMs < REMEMBERED_MS) return known.reason
    for (const [name, one] of this.known) if (atMs - one.atMs >= REMEMBERED_MS) this.known.delete(name)
    const reason = this.read(queue)
    this.known.set(queue, { atMs, reason })
    return reason
  }

  private async read(queue: string): Promise<WaitReason | null> {
    const { redis, keys } = this
    const [reports, paused, [seconds]] = await Promise.all([redis.hgetall(keys.workers), redis.hexists(`${keys.prefix}:${queue}:meta`, 'paused'), redis.time()])
    if (paused === 1) return 'QUEUE_PAUSED'
    const live = Object.entries(reports)
      .map(parseReport)
      .filter((report) => report.queue === queue && report.untilMs > Number(seconds) * 1000)
    if (live.length === 0) return 'NO_WORKER'
    return live.every(({ running, places }) => running >= places) ? 'WORKERS_BUSY' : null
  }
}

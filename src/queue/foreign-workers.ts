import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import { DEFAULTS } from '../model/defaults.js'
import { withoutArguments } from '../model/secrets.js'

/** The name of Tollgate's workers: BullMQ writes it into each job that they take. */
export const WORKER_NAME = 'tollgate'

/** Jobs that are looked at, of each kind. */
const LOOKED_AT = 10

/** A job that a worker took which Tollgate has not made: a plain BullMQ `Worker` passes no gate. */
export interface ForeignWorker {
  readonly queue: string
  /** The job that was seen. */
  readonly job: string
}

/** Whether a job that a worker has taken went past the gate. @param name of that worker, as BullMQ has written it into the job */
export function handledElsewhere(name: string | null): boolean {
  return name !== WORKER_NAME
}

/**
 * Notices workers of a gated queue that are not of Tollgate, by the jobs that they took since this process opened: every few seconds it looks at the
 * latest that run, and that ended. A process whose Redis is away looks again when that is back.
 */
export class ForeignWorkers {
  private readonly listeners = new Set<(found: ForeignWorker) => void>()
  private readonly timer: NodeJS.Timeout
  /** By the clock of the workers' machines. */
  private sinceMs = Date.now()
  private said = false

  constructor(
    private readonly redis: Redis,
    private readonly prefix: string,
    private readonly queue: string,
    private readonly log: Logger,
  ) {
    this.timer = setInterval(() => {
      if (redis.status === 'ready')
        this.look().catch((error: unknown) => log.debug({ err: withoutArguments(error) }, 'the workers of the queue could not be looked at'))
    }, DEFAULTS.foreignLookMs)
    this.timer.unref()
  }

  on(listener: (found: ForeignWorker) => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  close(): void {
    clearInterval(this.timer)
    this.listeners.clear()
  }

  private async look(): Promise<void> {
    const { redis, queue } = this
    const key = (name: string) => `${this.prefix}:${queue}:${name}`
    const [active, ...ended] = await Promise.all([
      redis.lrange(key('active'), 0, LOOKED_AT - 1),
      redis.zrevrange(key('completed'), 0, LOOKED_AT - 1),
      redis.zrevrange(key('failed'), 0, LOOKED_AT - 1),
    ])
    const jobs = [...active, ...ended.flat()]
    const fields = await Promise.all(jobs.map((job) => redis.hmget(key(job), 'pb', 'processedOn')))
    const taken = fields.map(([name = null, processedOn = null]) => (handledElsewhere(name) ? Number(processedOn ?? 0) : 0))
    const latestMs = Math.max(0, ...taken)
    if (latestMs <= this.sinceMs) return
    this.sinceMs = latestMs
    this.notice({ queue, job: jobs[taken.indexOf(latestMs)] as string })
  }

  private notice(found: ForeignWorker): void {
    if (!this.said)
      this.log.warn(
        found,
        'a worker that is not of Tollgate takes jobs of this queue: they pass no gate, unless its processor does (gateProcessor); this is not logged again',
      )
    this.said = true
    for (const listener of this.listeners) {
      try {
        listener(found)
      } catch (error) {
        this.log.error({ err: error }, "a listener to 'foreignWorker' failed")
      }
    }
  }
}

import { randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import { DEFAULTS } from '../model/defaults.js'
import { type Clock, SECOND } from '../model/time.js'
import type { ScriptClient } from '../store/redis/script-client.js'
import { scripts } from '../store/redis/scripts.js'

/** The shortest time between two reports. */
const APART_MS = 50
/** How long a worker is taken to be there after its last report: two in a row may be lost. */
const STAY_MS = 2.5 * DEFAULTS.beatMs

export interface PlaceReportsParts {
  readonly redis: Redis
  readonly scriptClient: ScriptClient
  readonly clock: Clock
  readonly log: Logger
  readonly queue: string
}

/**
 * Tells the dispatcher how many places a worker has, and how many are taken: each second, and when a place comes free after all were taken.
 *
 * If the process dies, or stands still, its last report lapses, and calls of its queue are no longer woken for its places. The report is kept until
 * its jobs are given to other workers: until then they are active in BullMQ, though no worker runs them.
 */
export class PlaceReports {
  private readonly id = randomUUID()
  private readonly timer: NodeJS.Timeout
  private running = 0
  private ended = 0
  /** Since when ended calls are counted, and when the last report left. */
  private countedMs = performance.now()
  private reportedMs = Number.NEGATIVE_INFINITY
  private perSecond = 0
  private closing = false
  /** The report that is under way: while Redis is away no other is sent. */
  private sending: Promise<unknown> | undefined

  constructor(
    private readonly parts: PlaceReportsParts,
    private readonly places: number,
    private readonly leaseMs: number,
  ) {
    this.timer = setInterval(() => this.report(), DEFAULTS.beatMs)
    this.timer.unref()
    this.report()
  }

  taken(): void {
    this.running++
  }

  freed(): void {
    this.ended++
    if (this.running-- >= this.places && performance.now() - this.reportedMs >= APART_MS) this.report()
  }

  /** The worker takes no more jobs: it has the places that its calls take until they end. */
  close(): void {
    this.closing = true
    this.report()
  }

  /** The worker has ended. @param force for a Redis that is gone: its report lapses */
  async end(force: boolean): Promise<void> {
    clearInterval(this.timer)
    if (force) return
    await this.sending
    await this.send(0).catch(() => {})
  }

  private report(): void {
    const nowMs = performance.now()
    const forMs = nowMs - this.countedMs
    if (forMs >= DEFAULTS.beatMs / 2) {
      this.perSecond = (this.ended * SECOND) / forMs
      this.ended = 0
      this.countedMs = nowMs
    }
    if (this.sending !== undefined) return
    this.reportedMs = nowMs
    this.sending = this.send(STAY_MS)
      .catch((error: unknown) => this.parts.log.debug({ err: error }, 'the places of a worker could not be reported'))
      .finally(() => {
        this.sending = undefined
      })
  }

  private async send(stayMs: number): Promise<void> {
    const { redis, scriptClient, clock, queue } = this.parts
    const { keys } = scriptClient
    // A worker that dies keeps its jobs active for two leases at most.
    const places = this.closing ? this.running : this.places
    const told = [this.id, stayMs, 2 * this.leaseMs, `${places} ${this.running} ${this.perSecond.toFixed(3)} ${queue}`]
    await scripts.reportPlaces.run(redis, [keys.workers, keys.lines, keys.queueLine(queue), keys.wake], [clock.forScripts(), ...told])
  }
}

import { setTimeout as sleep } from 'node:timers/promises'
import { DEFAULTS } from '../model/defaults.js'
import type { Member, Members } from './members.js'

/**
 * How the process that reaches Redis again first waits for the others (decision 0066). Redis has room for what they have used and have not reported
 * yet, and this process would take it.
 *
 *     not heard since ──0.3 s after Redis answered──> not waited for: it is dead, or cut off alone
 *     heard, has yet to report ──10 s──> not waited for
 *     heard, and has reported; or gone before its time: it has left
 *
 * Processes that can reach Redis are back within about 0.3 s of each other: a connection is tried again after 250 ms at most, as is a Redis that
 * refuses, and the master is looked for each 200 ms. What one that comes later has used is charged when it reports, as debt where there is no room.
 *
 * A Redis that is late now and then while it comes back, or goes away again within a second, has no one waited for anew.
 */
export class Regroup {
  /** When Redis was heard last by this, and since when it has been heard again and again. */
  private heardMs = Number.NEGATIVE_INFINITY
  private heardSinceMs = 0

  constructor(private readonly members: Members) {}

  /**
   * @param others that were there when the outage began
   * @param sinceMs when Redis answered this process first, by its own clock
   * @param report reports what was used here, and says that it was
   */
  async wait(others: readonly Member[], sinceMs: number, report: () => Promise<void>): Promise<void> {
    const untilMs = this.heard() + DEFAULTS.memberMs
    let left = others
    for (;;) {
      // Also where no other is known here: others may wait for this process.
      await report()
      const nowMs = this.heard()
      left = this.members.missing(left, sinceMs, nowMs - this.heardSinceMs < DEFAULTS.regroupAtMostMs)
      if (left.length === 0 || nowMs > untilMs) return
      await sleep(DEFAULTS.regroupMs, undefined, { ref: false })
    }
  }

  /** Redis answers. @returns now */
  private heard(): number {
    const nowMs = performance.now()
    if (nowMs - this.heardMs > DEFAULTS.beatMs) this.heardSinceMs = nowMs
    this.heardMs = nowMs
    return nowMs
  }
}

import type { Logger } from 'pino'
import { DEFAULTS } from '../model/defaults.js'
import { isStoreError } from '../redis/store-error.js'

/** What is done in Redis when it is back. Each may be sent any number of times, and counts once. */
interface Deferred {
  readonly kind: 'settle' | 'release' | 'report'
  readonly send: () => Promise<unknown>
}

/** Sent together. */
const AT_ONCE = 100

/**
 * What Redis has to be told when it is back, in the order in which it happened: how calls ended, and the reports of the journal.
 *
 * If the process dies, the list is lost with it: the calls stay charged as estimated. If a reply is lost, its message is sent again: a settlement
 * finds its entry closed, and a report is known by its name.
 */
export class DeferredSettlements {
  private deferred: Deferred[] = []

  constructor(private readonly log: Logger) {}

  get size(): number {
    return this.deferred.length
  }

  get full(): boolean {
    return this.deferred.length >= DEFAULTS.outageSettlements
  }

  /** Whether a report waits, which opens the entries of the calls in it: until then Redis does not know them. */
  get holdsReport(): boolean {
    return this.deferred.some(({ kind }) => kind === 'report')
  }

  add(kind: Deferred['kind'], send: () => Promise<unknown>): void {
    this.deferred.push({ kind, send })
  }

  /** Sends all of it. @throws what Redis failed with; what it did not take stays in the list */
  async send(): Promise<void> {
    while (this.deferred.length > 0) {
      const first = this.deferred.findIndex(({ kind }) => kind === 'report')
      const some = this.deferred.slice(0, first === 0 ? 1 : Math.min(AT_ONCE, first < 0 ? AT_ONCE : first))
      // Sent in their order, on one connection: done in their order.
      await Promise.all(some.map((one) => this.sendOne(one)))
      this.deferred.splice(0, some.length)
    }
  }

  private async sendOne({ kind, send }: Deferred): Promise<void> {
    try {
      await send()
    } catch (error) {
      if (isStoreError(error)) throw error
      this.log.error({ err: error, kind }, 'Redis could not take in something that an outage has left; it is left out')
    }
  }
}

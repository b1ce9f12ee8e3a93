import type { Logger } from 'pino'
import type { AdmissionRequest } from '../admission/request.js'
import type { ActualCosts } from '../model/cost.js'
import { DEFAULTS } from '../model/defaults.js'
import { StoreUnavailable } from '../model/errors.js'
import { isStoreError } from '../redis/store-error.js'
import { LedgerNames } from '../store/ledger-names.js'
import type { Books, Takings } from './books.js'

/** What is done in Redis when it is back. Each may be sent any number of times, and counts once. */
type Owed =
  | { readonly kind: 'settle'; readonly request: AdmissionRequest; readonly actual: ActualCosts; readonly how: 'end' | 'part' }
  | { readonly kind: 'release'; readonly request: AdmissionRequest }
  | { readonly kind: 'absorb'; readonly name: string; readonly takings: Takings }

/** How what is owed reaches Redis. */
export interface Payer {
  settle(request: AdmissionRequest, actual: ActualCosts, how: 'end' | 'part'): Promise<unknown>
  release(request: AdmissionRequest): Promise<unknown>
  mergeUsage(name: string, takings: Takings): Promise<unknown>
}

/** Sent together. */
const AT_ONCE = 100

/**
 * What a process owes Redis while that is away, in the order in which it happened: what was used
 * by its own meters, and how calls ended.
 *
 * What if the process dies: it is lost with it, as an estimate that nobody settles stays charged.
 * What if a reply is lost: what is owed is sent again. A settlement finds its entry closed, and
 * what was used is taken in under a name that is known by then.
 */
export class Arrears {
  private readonly log: Logger
  private readonly names = new LedgerNames()
  private owed: Owed[] = []

  constructor(log: Logger) {
    this.log = log
  }

  get size(): number {
    return this.owed.length
  }

  /** @throws StoreUnavailable where too much is owed already */
  settle(request: AdmissionRequest, actual: ActualCosts, how: 'end' | 'part'): void {
    this.bound()
    this.owed.push({ kind: 'settle', request, actual, how })
  }

  /** @throws StoreUnavailable where too much is owed already */
  release(request: AdmissionRequest): void {
    this.bound()
    this.owed.push({ kind: 'release', request })
  }

  mergeUsage(books: Books): void {
    const { meters, open } = books.close()
    for (let from = 0; from < Math.max(meters.length, open.length); from += AT_ONCE) {
      const takings = { meters: meters.slice(from, from + AT_ONCE), open: open.slice(from, from + AT_ONCE) }
      this.owed.push({ kind: 'absorb', name: this.names.next(), takings })
    }
  }

  /** Pays what is owed. @throws what Redis failed with; what was not taken stays owed */
  async pay(payer: Payer): Promise<void> {
    while (this.owed.length > 0) {
      const first = this.owed.findIndex(({ kind }) => kind === 'absorb')
      const some = this.owed.slice(0, first === 0 ? 1 : Math.min(AT_ONCE, first < 0 ? AT_ONCE : first))
      // Sent in their order, on one connection: done in their order.
      await Promise.all(some.map((one) => this.payOne(one, payer)))
      this.owed.splice(0, some.length)
    }
  }

  private async payOne(one: Owed, payer: Payer): Promise<void> {
    try {
      if (one.kind === 'settle') await payer.settle(one.request, one.actual, one.how)
      else if (one.kind === 'release') await payer.release(one.request)
      else await payer.mergeUsage(one.name, one.takings)
    } catch (error) {
      if (isStoreError(error)) throw error
      this.log.error({ err: error, kind: one.kind }, 'something that an outage has left could not be taken in; it is left out')
    }
  }

  private bound(): void {
    if (this.owed.length >= DEFAULTS.outageSettlements)
      throw new StoreUnavailable('Redis is away, and too many calls have ended meanwhile to remember one more', { retryAfterMs: DEFAULTS.longestProbeMs })
  }
}

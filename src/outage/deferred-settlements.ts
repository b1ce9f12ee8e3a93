import type { Logger } from 'pino'
import type { AdmissionRequest } from '../admission/request.js'
import type { ActualCosts } from '../model/cost.js'
import { DEFAULTS } from '../model/defaults.js'
import { StoreUnavailable } from '../model/errors.js'
import { isStoreError } from '../redis/store-error.js'
import type { LedgerNames } from '../store/ledger-names.js'
import type { UsageReport } from './journal.js'

/** What is done in Redis when it is back. Each may be sent any number of times, and counts once. */
type Deferred =
  | { readonly kind: 'settle'; readonly request: AdmissionRequest; readonly actual: ActualCosts; readonly how: 'end' | 'part' }
  | { readonly kind: 'release'; readonly request: AdmissionRequest }
  | { readonly kind: 'report'; readonly name: string; readonly report: UsageReport }

/** How what was deferred reaches Redis. */
export interface SettlementSender {
  settle(request: AdmissionRequest, actual: ActualCosts, how: 'end' | 'part'): Promise<unknown>
  release(request: AdmissionRequest): Promise<unknown>
  mergeUsage(name: string, report: UsageReport): Promise<unknown>
}

/** Sent together. */
const AT_ONCE = 100

/**
 * What Redis has to be told when it is back, in the order in which it happened: how calls ended, and
 * the reports of the journal.
 *
 * If the process dies, the list is lost with it: the calls stay charged as estimated. If a reply is
 * lost, its message is sent again: a settlement finds its entry closed, and a report is known by
 * its name.
 */
export class DeferredSettlements {
  private deferred: Deferred[] = []

  constructor(
    private readonly names: LedgerNames,
    private readonly log: Logger,
  ) {}

  get size(): number {
    return this.deferred.length
  }

  /** @throws StoreUnavailable where the list is full */
  settle(request: AdmissionRequest, actual: ActualCosts, how: 'end' | 'part'): void {
    this.mustHaveRoom()
    this.deferred.push({ kind: 'settle', request, actual, how })
  }

  /** @throws StoreUnavailable where the list is full */
  release(request: AdmissionRequest): void {
    this.mustHaveRoom()
    this.deferred.push({ kind: 'release', request })
  }

  /** Takes a charge back that Redis made for a call that was answered here. As many as were under way when it went. */
  takeBack(request: AdmissionRequest): void {
    this.deferred.push({ kind: 'release', request })
  }

  report({ meters, open }: UsageReport): void {
    for (let from = 0; from < Math.max(meters.length, open.length); from += AT_ONCE) {
      const report = { meters: meters.slice(from, from + AT_ONCE), open: open.slice(from, from + AT_ONCE) }
      this.deferred.push({ kind: 'report', name: this.names.next(), report })
    }
  }

  /** Sends all of it. @throws what Redis failed with; what it did not take stays in the list */
  async send(sender: SettlementSender): Promise<void> {
    while (this.deferred.length > 0) {
      const first = this.deferred.findIndex(({ kind }) => kind === 'report')
      const some = this.deferred.slice(0, first === 0 ? 1 : Math.min(AT_ONCE, first < 0 ? AT_ONCE : first))
      // Sent in their order, on one connection: done in their order.
      await Promise.all(some.map((one) => this.sendOne(one, sender)))
      this.deferred.splice(0, some.length)
    }
  }

  private async sendOne(one: Deferred, sender: SettlementSender): Promise<void> {
    try {
      await sent(one, sender)
    } catch (error) {
      if (isStoreError(error)) throw error
      this.log.error({ err: error, kind: one.kind }, 'Redis could not take in something that an outage has left; it is left out')
    }
  }

  private mustHaveRoom(): void {
    if (this.deferred.length >= DEFAULTS.outageSettlements)
      throw new StoreUnavailable('Redis is away, and too many calls have ended meanwhile to remember one more', { retryAfterMs: DEFAULTS.longestProbeMs })
  }
}

function sent(one: Deferred, sender: SettlementSender): Promise<unknown> {
  switch (one.kind) {
    case 'settle':
      return sender.settle(one.request, one.actual, one.how)
    case 'release':
      return sender.release(one.request)
    case 'report':
      return sender.mergeUsage(one.name, one.report)
    default:
      return one satisfies never
  }
}

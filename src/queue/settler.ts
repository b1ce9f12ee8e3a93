import type { Logger } from 'pino'
import { DEFAULTS } from '../config/defaults.js'
import type { ActualCost, Asked, Gate } from '../gate/gate.js'
import { Turn } from '../gate/turn.js'

/**
 * Settles calls as they end, without keeping their jobs waiting. What if a settlement is
 * lost with its process: the ledger entry ends by itself, the estimate stays charged and
 * the slot comes back with its lease.
 */
export class Settler {
  private readonly log: Logger
  private readonly open = new Set<Promise<unknown>>()
  private readonly turn: Turn<{ asked: Asked; actual: ActualCost }, boolean>

  constructor(gate: Gate, log: Logger) {
    this.log = log
    this.turn = new Turn(
      DEFAULTS.batchKeys,
      ({ asked }) => asked.demand.parts.length + 1,
      (settlements) => gate.settle(settlements.map(trimmed)),
    )
  }

  settle(asked: Asked, actual: ActualCost): void {
    const settled = this.turn.ask({ asked, actual }).catch((error: unknown) => {
      this.log.error({ err: error, call: asked.id }, 'a call could not be settled; its estimate stays charged')
    })
    this.open.add(settled)
    void settled.finally(() => this.open.delete(settled))
  }

  /** Resolves when everything said so far is settled. */
  async close(): Promise<void> {
    while (this.open.size > 0) await Promise.all(this.open)
  }
}

/** Leaves out the meters that a settlement cannot change: where the cost is as estimated and no slot is held. */
function trimmed(settlement: { asked: Asked; actual: ActualCost }): { asked: Asked; actual: ActualCost } {
  const { asked, actual } = settlement
  const { demand } = asked
  const sameRequests = actual.requests === undefined || actual.requests === demand.requests
  const sameTokens = actual.tokens === undefined || actual.tokens === demand.tokens
  const parts = demand.parts.filter(({ rule }) =>
    rule.limits.some(({ unit }) => unit === 'concurrency' || (unit === 'requests' && !sameRequests) || (unit === 'tokens' && !sameTokens)),
  )
  return parts.length === demand.parts.length ? settlement : { actual, asked: { ...asked, demand: { ...demand, parts } } }
}

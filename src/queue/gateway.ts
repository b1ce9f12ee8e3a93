import type { Logger } from 'pino'
import { DEFAULTS } from '../config/defaults.js'
import type { ActualCosts } from '../cost/units.js'
import type { Decision } from '../decision.js'
import type { AskedCall, Settlement } from '../gate/asked.js'
import { costIn, type DemandPart } from '../gate/demand.js'
import type { Gate } from '../gate/gate.js'
import { LedgerNames } from '../gate/ledger-names.js'
import { Turn } from '../gate/turn.js'

/** A decision about a start, and the call as it stands in the ledger if it starts. */
export interface Started {
  readonly asked: AskedCall
  readonly decision: Decision
}

type Request = { readonly start: AskedCall } | { readonly end: Settlement }

/**
 * A worker's way through the gate: the ends of calls travel with the starts of the next,
 * so that meters both share are read and written once.
 *
 * A settlement does not keep its job waiting. What if it is lost with its process: the
 * ledger entry ends by itself, the estimate stays charged and the slot comes back with
 * its lease. What if only its answer is lost: sent again it finds its entry closed.
 */
export class Gateway {
  private readonly gate: Gate
  private readonly log: Logger
  private readonly ledgers = new LedgerNames()
  private readonly open = new Set<Promise<unknown>>()
  private readonly turn: Turn<Request, Started | undefined>

  constructor(gate: Gate, log: Logger) {
    this.gate = gate
    this.log = log
    this.turn = new Turn(
      DEFAULTS.batchKeys,
      (request) => ('start' in request ? request.start : request.end.asked).demand.parts.length + 1,
      (requests) => this.send(requests),
    )
  }

  async start(asked: AskedCall): Promise<Started> {
    return (await this.turn.ask({ start: asked })) as Started
  }

  /**
   * Settles a call that has ended; resolves nothing, fails nothing: see above.
   * @param asEstimated whether it is still charged what it was estimated at: nothing was said while it ran
   */
  settle(asked: AskedCall, actual: ActualCosts, asEstimated = true): void {
    const end = asEstimated ? trimmed({ asked, actual }) : { asked, actual }
    const settled: Promise<unknown> = this.turn.ask({ end }).then(
      () => this.open.delete(settled),
      (error: unknown) => {
        this.open.delete(settled)
        this.log.error({ err: error, call: asked.id }, 'a call could not be settled; its estimate stays charged')
      },
    )
    this.open.add(settled)
  }

  /** Resolves when everything said so far is settled. */
  async close(): Promise<void> {
    while (this.open.size > 0) await Promise.all(this.open)
  }

  private async send(requests: readonly Request[]): Promise<(Started | undefined)[]> {
    const ended = requests.flatMap((request) => ('end' in request ? [request.end] : []))
    const starts = requests.flatMap((request) => ('start' in request ? [request.start] : []))
    if (starts.length === 0) {
      await this.gate.settle(ended)
      return requests.map(() => undefined)
    }
    const decided = await this.decide(starts, ended)
    let next = 0
    return requests.map((request) => ('start' in request ? decided[next++] : undefined))
  }

  private async decide(starts: readonly AskedCall[], ended: readonly Settlement[]): Promise<Started[]> {
    const entered = this.enter(starts)
    const decisions = await this.gate.start(entered, ended, false)
    // Most calls run at once or are in line already; those that have to join one are sent along for it.
    const again = this.enter(starts.filter((_, index) => decisions[index]?.outcome === 'again'))
    const decidedAgain = again.length === 0 ? [] : await this.gate.start(again, [], true)
    let next = 0
    return entered.map((asked, index) => {
      if (decisions[index]?.outcome !== 'again') return { asked, decision: decisions[index] as Decision }
      return { asked: again[next] as AskedCall, decision: decidedAgain[next++] as Decision }
    })
  }

  /** Gives the calls of one batch their places in its ledger, which no other batch opens. */
  private enter(starts: readonly AskedCall[]): AskedCall[] {
    const ledger = this.ledgers.next()
    return starts.map((asked, index) => ({ ...asked, token: String(index), ledger }))
  }
}

/** Leaves out the meters that a settlement cannot change: where the cost is as estimated and no slot is held. */
function trimmed(settlement: Settlement): Settlement {
  const { asked, actual } = settlement
  const { demand } = asked
  const matters = ({ rule }: DemandPart) =>
    rule.limits.some(({ unit }) => unit === 'concurrency' || (unit !== 'none' && (actual[unit] ?? demand.costs[unit]) !== costIn(demand.costs, unit)))
  const parts = demand.parts.filter(matters)
  return { actual, asked: { ...asked, demand: { ...demand, parts } } }
}

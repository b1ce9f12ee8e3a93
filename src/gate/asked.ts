import type { Call, Strategy } from '../call.js'
import type { ActualCosts } from '../cost/units.js'
import type { Demand } from './demand.js'

/** A call as the gate asks for it. */
export interface Asked {
  readonly id: string
  /** Distinguishes one start of the call from the next; a repeated one is not charged again. */
  readonly token: string
  /** The ledger that its start shares with those it started with, its token being its place there. */
  readonly ledger?: string | undefined
  /** Charged for good: no entry is kept by which it could be settled or given back. */
  readonly forGood?: boolean | undefined
  readonly call: Pick<Call, 'id' | 'priority' | 'strategy' | 'deadline' | 'maxWaitMs'>
  /** As it is asked for this time, whatever the call says of itself. */
  readonly strategy?: Strategy | undefined
  readonly demand: Demand
}

/** A call that has been asked about with all that it says. */
export interface AskedCall extends Asked {
  readonly call: Call
}

/** A started call that has ended, and what it really cost. */
export interface Settlement {
  readonly asked: Asked
  readonly actual: ActualCosts
}

/** The keys that a call brings into a script call at most, but for those of single limits. */
export function weightOf({ demand }: Asked): number {
  return demand.parts.length + 1
}

import type { Call } from '../call.js'
import type { Demand } from './demand.js'

/** A call as the gate asks for it. */
export interface Asked {
  readonly id: string
  /** Distinguishes one start of the call from the next; a repeated one is not charged again. */
  readonly token: string
  /** The ledger that its start shares with those it started with, its token being its place there. */
  readonly ledger?: string | undefined
  readonly call: Call
  readonly demand: Demand
}

/** What a started call really cost; what is not given stays as estimated. */
export interface ActualCost {
  readonly requests?: number | undefined
  readonly tokens?: number | undefined
}

/** A started call that has ended. */
export interface Settlement {
  readonly asked: Asked
  readonly actual: ActualCost
}

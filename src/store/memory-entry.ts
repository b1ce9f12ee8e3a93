import { DEFAULTS } from '../config/defaults.js'
import type { Costs } from '../cost/units.js'

/** A ledger entry in memory. */
export interface MemoryEntry {
  readonly atMs: number
  /** The codes of the units that the rules counted when it was charged. */
  readonly counted: readonly number[]
  charged: Costs
}

/** After a day nobody is asked any more what a call has cost. */
export function hasExpired({ atMs }: MemoryEntry, nowMs: number): boolean {
  return atMs + DEFAULTS.ledgerMs <= nowMs
}

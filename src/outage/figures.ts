/** How a process stands to its Redis. */
export interface OutageFigures {
  /** Whether Redis is taken to be away now. */
  readonly away: boolean
  /** For how long, in ms; null while it is there. */
  readonly awayMs: number | null
  /** How often it was away since this Tollgate was opened. */
  readonly outages: number
  /** Calls let in by this process's share of the limits. */
  readonly metered: number
  /** Calls let in unchecked. */
  readonly unchecked: number
  /** Calls refused because Redis was away, or the share had no room. */
  readonly refused: number
  /** What Redis has not been told yet. */
  readonly owed: number
}

/** Where there is no Redis that could be away. */
export const NO_OUTAGE: OutageFigures = { away: false, awayMs: null, outages: 0, metered: 0, unchecked: 0, refused: 0, owed: 0 }

import type { SimulatedFleet } from './fleet/run-fleet.js'
import type { OracleName, Report } from './oracles/facts.js'

/** A fault of the program that is known and not mended yet. Its reports are expected; once it is mended, its entry goes and its scenario stays. */
export interface KnownFault {
  readonly name: string
  /** What is wrong, and where it is to be mended. */
  readonly about: string
  readonly oracle: OracleName
  /** Whether it explains a report. */
  readonly explains: (report: Report, simulated: SimulatedFleet) => boolean
}

export const KNOWN_FAULTS: readonly KnownFault[] = []

export function knownFaultOf(report: Report, simulated: SimulatedFleet): KnownFault | undefined {
  return KNOWN_FAULTS.find(({ oracle, explains }) => oracle === report.oracle && explains(report, simulated))
}

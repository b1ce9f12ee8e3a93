import { covers } from './fleet/limits-of-rules.js'
import type { SimulatedFleet } from './fleet/run-fleet.js'
import type { Feature } from './fleet/spec.js'
import type { FaultKind, OracleName, Report } from './oracles/facts.js'

/**
 * A fault of the program that is known and not mended yet. Reports that it explains are expected: they are counted, and fail nothing. When it is
 * mended its entry goes, and its scenario and seeds become regressions.
 */
export interface KnownFault {
  readonly name: string
  /** What is wrong. */
  readonly about: string
  readonly oracles: readonly OracleName[]
  /** The scenario that shows it. */
  readonly scenario?: string
  /** Whether it explains a report. */
  readonly explains: (report: Report, simulated: SimulatedFleet) => boolean
}

const has =
  (...features: readonly Feature[]) =>
  (_: Report, { spec }: SimulatedFleet) =>
    features.some((feature) => spec.features.includes(feature))

const after =
  (...kinds: readonly FaultKind[]) =>
  (_: Report, { spec }: SimulatedFleet) =>
    spec.faults.some(({ kind }) => kinds.includes(kind))

/** Whether some call of the report meets so many rules at least. */
const meetsRules =
  (least: number) =>
  ({ calls }: Report, { fleet, spec }: SimulatedFleet) =>
    calls.length === 0
      ? spec.rules.length >= least
      : calls.some((name) => spec.rules.filter((rule) => covers(rule, fleet.calls.get(name)?.scopes ?? {})).length >= least)

export const KNOWN_FAULTS: readonly KnownFault[] = []

export function knownFaultOf(report: Report, simulated: SimulatedFleet): KnownFault | undefined {
  return KNOWN_FAULTS.find(({ oracles, explains }) => oracles.includes(report.oracle) && explains(report, simulated))
}

export { after, has, meetsRules }

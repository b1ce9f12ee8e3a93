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

type Explains = KnownFault['explains']

const all =
  (...parts: readonly Explains[]): Explains =>
  (report, simulated) =>
    parts.every((part) => part(report, simulated))

const has =
  (...features: readonly Feature[]): Explains =>
  (_, { spec }) =>
    features.some((feature) => spec.features.includes(feature))

const after =
  (...kinds: readonly FaultKind[]): Explains =>
  (_, { spec }) =>
    spec.faults.some(({ kind }) => kinds.includes(kind))

const says =
  (text: RegExp): Explains =>
  (report) =>
    text.test(report.text)

/** Whether a call of the report meets so many rules at least; of a report without calls, whether the fleet has so many. */
const meetsRules =
  (least: number): Explains =>
  ({ calls }, { fleet, spec }) =>
    calls.length === 0
      ? spec.rules.length >= least
      : calls.some((name) => spec.rules.filter((rule) => covers(rule, fleet.calls.get(name)?.scopes ?? {})).length >= least)

export const KNOWN_FAULTS: readonly KnownFault[] = [
  {
    name: 'usage reported after a failover',
    about:
      'What a process let in or recorded while it was cut off leaks from the bucket in its memory until it is reported, and from that in Redis, too: hundredths are missing there.',
    oracles: ['never over'],
    explains: all(after('failover'), has('gate', 'acquire', 'limiter'), says(/exceeded by 0\.0\d+ /)),
  },
  {
    name: 'told too late a start',
    about: 'A call ahead that is refused, degraded or taken back in the end charges nothing: those behind it start earlier than they were told.',
    oracles: ['eta told'],
    explains: all(meetsRules(2), has('budgets', 'graceful rules', 'deduplication', 'throttle'), says(/ earlier; /)),
  },
  {
    name: 'times of three rules',
    about:
      'Which line a call of three and more rules stands in next depends on calls that are still to come: of its fleet more than one call in a hundred may start outside the time that it was told.',
    oracles: ['eta told'],
    explains: meetsRules(3),
  },
  {
    name: 'overtaken in another queue',
    about: 'A call of a queue without a free place is overtaken by calls of other queues, also after it has come to the line of another rule.',
    oracles: ['in order'],
    explains: all(meetsRules(2), has('several queues', 'few places')),
  },
  {
    name: 'overtaken in another line',
    about:
      'A call that has moved to the line of another rule once is not sent back by calls that came before it and stand in the line of its first rule: it may start before them. If it were, two lines could send calls to and fro.',
    oracles: ['in order'],
    explains: meetsRules(3),
  },
  {
    name: 'crossing rules lose room',
    about: 'A call that needs two busy meters at once holds room at the first while it waits for the second.',
    oracles: ['never stuck'],
    explains: meetsRules(3),
  },
]

export function knownFaultOf(report: Report, simulated: SimulatedFleet): KnownFault | undefined {
  return KNOWN_FAULTS.find(({ oracles, explains }) => oracles.includes(report.oracle) && explains(report, simulated))
}

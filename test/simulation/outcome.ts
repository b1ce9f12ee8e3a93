import type { SimulatedFleet } from './fleet/run-fleet.js'
import { type KnownFault, knownFaultOf } from './known.js'
import type { Report } from './oracles/facts.js'
import { type JournalLine, journalText } from './world/journal.js'

/** How much of the journal is printed around a report. */
const LINES_AROUND = 40
const BEFORE_MS = 400
const AFTER_MS = 100

/** What became of one seed or scenario: plain data, since it comes from another process. */
export interface Outcome {
  /** `seed 12`, or the name of a scenario. */
  readonly name: string
  readonly seed: number
  readonly hash: string
  readonly features: readonly string[]
  readonly faults: readonly string[]
  readonly calls: number
  readonly runs: number
  readonly commands: number
  readonly virtualMs: number
  readonly wallMs: number
  readonly reports: readonly OutcomeReport[]
}

export interface OutcomeReport extends Report {
  /** The known fault that explains it. */
  readonly known?: KnownFault['name']
  /** The lines of the journal around it, about its calls where there are such. */
  readonly journal: readonly string[]
}

export function outcomeOf(name: string, simulated: SimulatedFleet): Outcome {
  const { spec, hash, fleet, commands, runs, virtualMs, wallMs } = simulated
  return {
    name,
    seed: spec.seed,
    hash,
    features: spec.features,
    faults: spec.faults.map(({ kind }) => kind).filter((kind, at, all) => all.indexOf(kind) === at),
    calls: fleet.calls.size,
    runs,
    commands,
    virtualMs,
    wallMs,
    reports: simulated.reports.map((report) => {
      const known = knownFaultOf(report, simulated)
      return { ...report, ...(known === undefined ? {} : { known: known.name }), journal: journalAround(simulated, report) }
    }),
  }
}

/** Reports that no known fault explains. */
export function surprises({ reports }: Outcome): readonly OutcomeReport[] {
  return reports.filter(({ known }) => known === undefined)
}

function journalAround({ fleet }: SimulatedFleet, { atMs, calls }: Report): string[] {
  const lines = fleet.world.journal.around(atMs - BEFORE_MS, atMs + AFTER_MS, Number.POSITIVE_INFINITY)
  const told = lines.filter((line) => isTelling(line) || isAbout(fleet.calls.get(calls[0] ?? '')?.name, line))
  return told.slice(-LINES_AROUND).map(journalText)
}

/** Lines of single commands say little by themselves. */
function isTelling({ text }: JournalLine): boolean {
  return !/^c\d+ /.test(text)
}

function isAbout(call: string | undefined, { text }: JournalLine): boolean {
  return call !== undefined && text.includes(` ${call} `)
}

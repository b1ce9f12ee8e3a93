import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { type Allowed, FEATURES } from '../fleet/spec.js'
import { FAULTS, type FaultKind, type OracleName } from '../oracles/facts.js'
import { type Outcome, surprises } from '../outcome.js'
import { Simulator } from '../pool.js'
import { faultNamed, type PlantedFault, PROJECT } from './faults.js'
import { type PlantedCopy, plant } from './planted.js'

const SIMULATE = join(PROJECT, 'dist', 'test', 'simulation', 'simulate.js')

/** The longest that a seed, or the small scope, may take. A fault that lets it run for ever is not found by it. */
const SEED_MS = 120_000
const SMALL_SCOPE_MS = 10 * 60_000

/** The seeds from the first to the last, both included. */
export interface SeedRange {
  readonly first: number
  readonly last: number
}

/** Where a fault is looked for: by which seeds, and what their fleets may have. */
interface Search {
  readonly allowed: Allowed
  readonly seeds: SeedRange
}

/** A report of the simulation that no known fault explains. */
export interface Finding {
  readonly oracle: string
  readonly text: string
  /** In what it was made: a seed and its fleets, or the small scope. */
  readonly where: string
}

export interface PlantedResult {
  readonly name: string
  /** undefined: not found. */
  readonly finding: Finding | undefined
  /** A report by an oracle that ought not to see this fault: it may be a fault that the sources have anyway, at another time. It does not count. */
  readonly elsewhere: Finding | undefined
  /** How many seeds were run. */
  readonly seeds: number
  /** Until the finding, with the runs of seeds without the fault; not the time to compile the copy. */
  readonly seconds: number
  /** Why the simulation could not be run to its end; undefined where it was. */
  readonly failure: string | undefined
}

/**
 * The seeds of one fault, the telling ones first: fleets that have what the fault needs to matter and nothing else, where nothing hides it and no
 * disturbance excuses it; the same among other features; and fleets as any seed draws them, with all faults.
 */
function searchesFor({ fleets }: PlantedFault, { first, last }: SeedRange): Search[] {
  const count = last - first + 1
  const [few, more] = [first + Math.floor(count / 5), first + Math.floor((count * 3) / 5)]
  const faults = fleets.filter((one): one is FaultKind => FAULTS.some((kind) => kind === one))
  return [
    { allowed: { faults, features: [], has: fleets }, seeds: { first, last: few - 1 } },
    { allowed: { faults, features: FEATURES, has: fleets }, seeds: { first: few, last: more - 1 } },
    { allowed: { faults: FAULTS, features: FEATURES }, seeds: { first: more, last } },
  ]
}

/** How a seed of a search is run again. */
function commandOf({ allowed: { faults, features, has = [] } }: Search, seed: number): string {
  const list = (names: readonly string[], all: readonly string[]) => (names.length === all.length ? 'all' : names.length === 0 ? 'none' : names.join(','))
  const parts = [`--seed ${seed}`]
  if (faults.length < FAULTS.length) parts.push(`--faults ${list(faults, FAULTS)}`)
  if (features.length < FEATURES.length) parts.push(`--features ${list(features, FEATURES)}`)
  if (has.length > 0) parts.push(`--has ${has.join(',')}`)
  return parts.join(' ')
}

/** Looks for planted faults, with as many processes at once as it is given. */
class Hunt {
  private readonly sources = new Simulator()
  /** Seeds in which the sources report something without a planted fault: what is reported there says nothing about the fault. */
  private readonly reporting = new Map<string, Promise<boolean>>()

  constructor(private readonly processes: number) {}

  close(): void {
    this.sources.close()
  }

  private reportsAnyway(search: Search, seed: number): Promise<boolean> {
    const key = commandOf(search, seed)
    const known =
      this.reporting.get(key) ?? this.sources.simulate({ program: PROJECT, task: { seed, ...search.allowed } }).then((it) => surprises(it).length > 0)
    this.reporting.set(key, known)
    return known
  }

  async find(name: string, seeds: SeedRange): Promise<PlantedResult> {
    const fault = faultNamed(name)
    const copy = await plant(name)
    const startedMs = performance.now()
    const found: Found = { seeds: 0, failures: [] }
    const [focused, ...wider] = searchesFor(fault, seeds) as [Search, ...Search[]]
    try {
      await this.seeds(fault, copy, focused, found)
      if (found.finding === undefined) await smallScope(copy, found)
      for (const search of wider) if (found.finding === undefined) await this.seeds(fault, copy, search, found)
    } finally {
      copy.remove()
    }
    const { finding, elsewhere, failures } = found
    return {
      name,
      finding,
      elsewhere,
      seeds: found.seeds,
      seconds: (performance.now() - startedMs) / 1000,
      failure: failures.length === 0 ? undefined : failures.join('\n'),
    }
  }

  /** Runs seeds with the fault, several at once, until one of them shows it. */
  private async seeds({ oracles }: PlantedFault, { root }: PlantedCopy, search: Search, found: Found): Promise<void> {
    let next = search.seeds.first
    const lane = async () => {
      let simulator = new Simulator()
      while (found.finding === undefined && next <= search.seeds.last) {
        const seed = next++
        try {
          const outcome = await simulator.simulate({ program: root, task: { seed, ...search.allowed } }, SEED_MS)
          found.seeds++
          if (surprises(outcome).length > 0 && !(await this.reportsAnyway(search, seed))) note(found, oracles, outcome, commandOf(search, seed))
        } catch (error) {
          found.failures.push(String(error))
          simulator = new Simulator()
        }
      }
      simulator.close()
    }
    await Promise.all(Array.from({ length: this.processes }, lane))
  }
}

interface Found {
  finding?: Finding
  elsewhere?: Finding
  seeds: number
  readonly failures: string[]
}

function note(found: Found, oracles: readonly OracleName[], outcome: Outcome, where: string): void {
  const reports = surprises(outcome)
  const expected = reports.find(({ oracle }) => oracles.includes(oracle))
  const { oracle, text: told } = expected ?? (reports[0] as (typeof reports)[number])
  if (expected !== undefined) found.finding ??= { oracle, text: told, where }
  else found.elsewhere ??= { oracle, text: told, where }
}

/** Its quick form, until the first report. */
async function smallScope({ root }: PlantedCopy, found: Found): Promise<void> {
  const child = spawn(process.execPath, [SIMULATE, '--program', root, '--small-scope', '--quick', '--stop-at-first', '--json'], {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: SMALL_SCOPE_MS,
    killSignal: 'SIGKILL',
  })
  const closed = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>
  const [output, errors, [code, signal]] = await Promise.all([text(child.stdout), text(child.stderr), closed])
  const line = output.split('\n').find((one) => one.startsWith('{'))
  if (code === 1 && line !== undefined) {
    const { text: told, scope } = JSON.parse(line) as { text: string; scope: string }
    found.finding = { oracle: 'small scope', text: told, where: `scope ${scope}` }
  } else if (code !== 0) found.failures.push(`the small scope ended with ${signal ?? `exit code ${code}`}: ${`${errors}${output}`.trim().slice(-500)}`)
}

const CELL = 100

/** One row of the table: Markdown, so that it can stand in a page as it is. */
export function rowOf({ name, finding, elsewhere, seeds, seconds, failure }: PlantedResult): string {
  const found = finding === undefined ? 'NOT FOUND' : finding.oracle
  const other = elsewhere === undefined ? '' : `by another oracle (${elsewhere.oracle}, ${elsewhere.where}): ${elsewhere.text}`
  const told = (finding?.text ?? failure ?? other).replaceAll(/\s+/g, ' ').replaceAll('|', '/')
  const short = told.length > CELL ? `${told.slice(0, CELL - 1)}…` : told
  return `| ${name} | ${found} | ${finding?.where ?? ''} | ${seeds} | ${seconds.toFixed(1)} | ${short} |`
}

export const TABLE_HEAD = '| planted fault | found by | in | seeds run | seconds | first report |\n| --- | --- | --- | --- | --- | --- |'

/** Looks for each of these faults, one after the other, and prints the table. @returns whether all were found */
export async function runPlanted(names: readonly string[], seeds: SeedRange, processes: number): Promise<boolean> {
  process.stdout.write(`${TABLE_HEAD}\n`)
  const hunt = new Hunt(processes)
  let missed = 0
  for (const name of names) {
    const result = await hunt.find(name, seeds)
    if (result.finding === undefined) missed++
    process.stdout.write(`${rowOf(result)}\n`)
  }
  hunt.close()
  process.stdout.write(`\n${names.length - missed} of ${names.length} planted faults found\n`)
  return missed === 0
}

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { faultNamed, type PlantedFault, PROJECT } from './faults.js'
import { type PlantedCopy, plant } from './planted.js'

const SIMULATE = join(PROJECT, 'dist', 'test', 'simulation', 'simulate.js')

/** Seeds that are tried before the small scope is: most faults are found in one of them, in seconds. */
const FIRST_SEEDS = 30

/** The most time of one child process. A fault that lets the simulation run for ever is not found by it. */
const CHILD_MS = 20 * 60_000

/** The seeds from the first to the last, both included. */
export interface SeedRange {
  readonly first: number
  readonly last: number
}

/** A report of the simulation that is none of the expected failures. */
interface Finding {
  readonly oracle: string
  readonly text: string
  /** Left out by the small scope, which has none. */
  readonly seed?: number
  /** In what it was made: a seed, or the small scope. */
  readonly where: string
}

type FoundIn = Omit<Finding, 'where'>

export interface PlantedResult {
  readonly name: string
  /** undefined: not found. */
  readonly finding: Finding | undefined
  /** A report by an oracle that ought not to see this fault: it may be a fault that the sources have anyway, at another time. It does not count. */
  readonly elsewhere: Finding | undefined
  /** From the first seed to the finding, with the run of its seed without the fault; not the time to compile the copy. */
  readonly seconds: number
  /** Why the simulation could not be run to its end; undefined where it was. */
  readonly failure: string | undefined
}

/** What became of one attempt to find a fault. */
interface Outcome {
  readonly finding?: Finding
  readonly elsewhere?: Finding
  readonly failure?: string
}

function findingOf(line: string): FoundIn | undefined {
  let parsed: unknown
  try {
    parsed = JSON.parse(line)
  } catch {
    return undefined
  }
  const { oracle, text: told, seed } = (parsed ?? {}) as Record<string, unknown>
  if (typeof oracle !== 'string' || typeof told !== 'string') return undefined
  return { oracle, text: told, ...(typeof seed === 'number' ? { seed } : {}) }
}

/**
 * Runs the simulation's command until its first report. Exit code 0: no report; 1: each report of that run stands in a line of JSON; any other: it
 * could not be run.
 */
async function simulate(root: string, args: readonly string[]): Promise<{ readonly findings: readonly FoundIn[]; readonly failure?: string }> {
  const child = spawn(process.execPath, [SIMULATE, '--program', root, '--stop-at-first', '--json', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: CHILD_MS,
    killSignal: 'SIGKILL',
  })
  const closed = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>
  const [output, errors, [code, signal]] = await Promise.all([text(child.stdout), text(child.stderr), closed])
  const findings = output.split('\n').flatMap((line) => findingOf(line) ?? [])
  if (code === 0 || (code === 1 && findings.length > 0)) return { findings }
  return { findings: [], failure: `${args.join(' ')}: ended with ${signal ?? `exit code ${code}`}: ${`${errors}${output}`.trim().slice(-500)}` }
}

/** Which faults of its own a seed may draw. Without any the oracles are strict: nothing excuses a late start. */
type DrawnFaults = 'all' | 'none'

/** Seeds in which the sources report something without a planted fault: what is reported there says nothing about the fault. */
const reportingSeeds = new Map<string, Promise<boolean>>()

function reportsAnyway(seed: number, faults: DrawnFaults): Promise<boolean> {
  const key = `${seed} ${faults}`
  const known = reportingSeeds.get(key) ?? simulate(PROJECT, ['--seed', String(seed), '--faults', faults]).then(({ findings }) => findings.length > 0)
  reportingSeeds.set(key, known)
  return known
}

/** The first report in these seeds, by an oracle that ought to see the fault, that the sources without the fault do not make in its seed. */
async function findInSeeds({ root, oracles }: Planted, { first, last }: SeedRange, faults: DrawnFaults = 'all'): Promise<Outcome> {
  let elsewhere: Finding | undefined
  let from = first
  while (from <= last) {
    const { findings, failure } = await simulate(root, ['--seeds', `${from}-${last}`, '--faults', faults])
    const seed = findings[0]?.seed
    if (failure !== undefined || seed === undefined) return { ...(failure === undefined ? {} : { failure }), ...(elsewhere === undefined ? {} : { elsewhere }) }
    if (!(await reportsAnyway(seed, faults))) {
      const where = `seed ${seed}${faults === 'none' ? ' without faults' : ''}`
      const expected = findings.find(({ oracle }) => oracles.some((one) => one === oracle))
      if (expected !== undefined) return { finding: { ...expected, where } }
      elsewhere ??= { ...(findings[0] as FoundIn), where }
    }
    from = seed + 1
  }
  return elsewhere === undefined ? {} : { elsewhere }
}

async function findInSmallScope({ root }: Planted): Promise<Outcome> {
  const { findings, failure } = await simulate(root, ['--small-scope', '--quick'])
  const [finding] = findings
  if (finding !== undefined) return { finding: { ...finding, where: 'small scope' } }
  return failure === undefined ? {} : { failure }
}

/** A copy with a fault, and the oracles that ought to see it. */
type Planted = Pick<PlantedCopy, 'root'> & Pick<PlantedFault, 'oracles'>

/** What is tried for one fault, the quick first. */
function triesOf(planted: Planted, { first, last }: SeedRange): (() => Promise<Outcome>)[] {
  const middle = Math.min(last, first + FIRST_SEEDS - 1)
  return [
    () => findInSeeds(planted, { first, last: middle }),
    () => findInSeeds(planted, { first, last: middle }, 'none'),
    () => findInSmallScope(planted),
    () => findInSeeds(planted, { first: middle + 1, last }),
  ]
}

/** Plants one fault, and looks for it until the first report. */
export async function findPlanted(name: string, seeds: SeedRange): Promise<PlantedResult> {
  const { oracles } = faultNamed(name)
  const copy = await plant(name)
  const startedMs = performance.now()
  const failures: string[] = []
  let finding: Finding | undefined
  let elsewhere: Finding | undefined
  try {
    for (const attempt of triesOf({ root: copy.root, oracles }, seeds)) {
      const outcome = await attempt()
      finding = outcome.finding
      elsewhere ??= outcome.elsewhere
      if (outcome.failure !== undefined) failures.push(outcome.failure)
      if (finding !== undefined) break
    }
  } finally {
    copy.remove()
  }
  return { name, finding, elsewhere, seconds: (performance.now() - startedMs) / 1000, failure: failures.length === 0 ? undefined : failures.join('\n') }
}

const CELL = 100

/** One row of the table: Markdown, so that it can stand in a page as it is. */
export function rowOf({ name, finding, elsewhere, seconds, failure }: PlantedResult): string {
  const found = finding === undefined ? 'NOT FOUND' : finding.oracle
  const other = elsewhere === undefined ? '' : `by another oracle (${elsewhere.oracle}, ${elsewhere.where}): ${elsewhere.text}`
  const told = (finding?.text ?? failure ?? other).replaceAll(/\s+/g, ' ').replaceAll('|', '/')
  const short = told.length > CELL ? `${told.slice(0, CELL - 1)}…` : told
  return `| ${name} | ${found} | ${finding?.where ?? ''} | ${seconds.toFixed(1)} | ${short} |`
}

export const TABLE_HEAD = '| planted fault | found by | in | seconds | first report |\n| --- | --- | --- | --- | --- |'

/** Looks for each of these faults, one after the other, and prints the table. @returns whether all were found */
export async function runPlanted({ names, seeds }: { names: readonly string[]; seeds: SeedRange }): Promise<boolean> {
  process.stdout.write(`${TABLE_HEAD}\n`)
  let missed = 0
  for (const name of names) {
    const result = await findPlanted(name, seeds)
    if (result.finding === undefined) missed++
    process.stdout.write(`${rowOf(result)}\n`)
  }
  process.stdout.write(`\n${names.length - missed} of ${names.length} planted faults found\n`)
  return missed === 0
}

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { PROJECT } from './faults.js'
import { plant } from './planted.js'

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
  /** From the first seed to the finding, with the run of its seed without the fault; not the time to compile the copy. */
  readonly seconds: number
  /** Why the simulation could not be run to its end; undefined where it was. */
  readonly failure: string | undefined
}

/** What became of one attempt to find a fault. */
interface Outcome {
  readonly finding?: Finding
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

/** Runs the simulation's command until its first report. Exit code 0: no report; 1: the report stands in a line of JSON; any other: it could not be run. */
async function simulate(root: string, args: readonly string[]): Promise<{ readonly finding?: FoundIn; readonly failure?: string }> {
  const child = spawn(process.execPath, [SIMULATE, '--program', root, '--stop-at-first', '--json', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: CHILD_MS,
    killSignal: 'SIGKILL',
  })
  const closed = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>
  const [output, errors, [code, signal]] = await Promise.all([text(child.stdout), text(child.stderr), closed])
  if (code === 0) return {}
  const finding = output.split('\n').map(findingOf).find(Boolean)
  if (code === 1 && finding !== undefined) return { finding }
  return { failure: `${args.join(' ')}: ended with ${signal ?? `exit code ${code}`}: ${`${errors}${output}`.trim().slice(-500)}` }
}

/** Which faults of its own a seed may draw. Without any the oracles are strict: nothing excuses a late start. */
type DrawnFaults = 'all' | 'none'

/** Seeds in which the sources report something without a planted fault: what is reported there says nothing about the fault. */
const reportingSeeds = new Map<string, Promise<boolean>>()

function reportsAnyway(seed: number, faults: DrawnFaults): Promise<boolean> {
  const key = `${seed} ${faults}`
  const known = reportingSeeds.get(key) ?? simulate(PROJECT, ['--seed', String(seed), '--faults', faults]).then(({ finding }) => finding !== undefined)
  reportingSeeds.set(key, known)
  return known
}

/** The first report in these seeds that the sources without the fault do not make in its seed. */
async function findInSeeds(root: string, { first, last }: SeedRange, faults: DrawnFaults = 'all'): Promise<Outcome> {
  let from = first
  while (from <= last) {
    const { finding, failure } = await simulate(root, ['--seeds', `${from}-${last}`, '--faults', faults])
    if (failure !== undefined) return { failure }
    if (finding?.seed === undefined) return {}
    const where = `seed ${finding.seed}${faults === 'none' ? ' without faults' : ''}`
    if (!(await reportsAnyway(finding.seed, faults))) return { finding: { ...finding, where } }
    from = finding.seed + 1
  }
  return {}
}

async function findInSmallScope(root: string): Promise<Outcome> {
  const { finding, failure } = await simulate(root, ['--small-scope', '--quick'])
  return finding === undefined ? { ...(failure === undefined ? {} : { failure }) } : { finding: { ...finding, where: 'small scope' } }
}

/** What is tried for one fault, the quick first. */
function triesOf(root: string, { first, last }: SeedRange): (() => Promise<Outcome>)[] {
  const middle = Math.min(last, first + FIRST_SEEDS - 1)
  return [
    () => findInSeeds(root, { first, last: middle }),
    () => findInSeeds(root, { first, last: middle }, 'none'),
    () => findInSmallScope(root),
    () => findInSeeds(root, { first: middle + 1, last }),
  ]
}

/** Plants one fault, and looks for it until the first report. */
export async function findPlanted(name: string, seeds: SeedRange): Promise<PlantedResult> {
  const copy = await plant(name)
  const startedMs = performance.now()
  const failures: string[] = []
  let finding: Finding | undefined
  try {
    for (const attempt of triesOf(copy.root, seeds)) {
      const outcome = await attempt()
      finding = outcome.finding
      if (outcome.failure !== undefined) failures.push(outcome.failure)
      if (finding !== undefined) break
    }
  } finally {
    copy.remove()
  }
  return { name, finding, seconds: (performance.now() - startedMs) / 1000, failure: failures.length === 0 ? undefined : failures.join('\n') }
}

const CELL = 100

/** One row of the table: Markdown, so that it can stand in a page as it is. */
export function rowOf({ name, finding, seconds, failure }: PlantedResult): string {
  const found = finding === undefined ? 'NOT FOUND' : finding.oracle
  const told = (finding?.text ?? failure ?? '').replaceAll(/\s+/g, ' ').replaceAll('|', '/')
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

import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import { Command, InvalidArgumentError, Option } from 'commander'
import { etaFigures } from './eta/eta-figures.js'
import { loadProgram } from './fleet/program.js'
import { type Allowed, FEATURES, type Feature } from './fleet/spec.js'
import { isCalm, runHealthy } from './healthy.js'
import { FAULTS, type FaultKind } from './oracles/facts.js'
import { type Outcome, surprises } from './outcome.js'
import { plantedFaults } from './planted/faults.js'
import { plant } from './planted/planted.js'
import { runPlanted } from './planted/run-planted.js'
import { simulateAll } from './pool.js'
import { SCENARIOS } from './scenarios/index.js'
import { simulate } from './simulator.js'
import { smallScope } from './small-scope/command.js'
import { SCOPES } from './small-scope/scopes.js'
import { storyOf } from './story.js'
import type { Work } from './work.js'
import { seconds } from './world/journal.js'
import { real } from './world/real-node.js'
import { missingPart, RealServer } from './world/server.js'

const PROCESSES = 2
const MOST_PRINTED = 5
const FOR_PLANTED = seedRange('1-200')

interface Options {
  readonly seeds?: readonly number[]
  readonly seed?: number
  readonly trace?: string
  readonly faults: readonly FaultKind[]
  readonly features: readonly Feature[]
  readonly has: readonly (FaultKind | Feature)[]
  readonly scenario?: string
  readonly program: string
  readonly processes: number
  readonly stopAtFirst?: boolean
  readonly json?: boolean
  readonly eta?: string | true
  readonly quiet?: boolean
  readonly twice?: boolean
  readonly smallScope?: string | true
  readonly quick?: boolean
  readonly replay?: string
  readonly planted?: readonly string[] | true
  readonly listPlanted?: boolean
  readonly plant?: readonly string[]
  readonly healthy?: number
  readonly record?: string
}

function seedRange(text: string): number[] {
  const [, first, last = first] = /^(\d+)(?:-(\d+))?$/.exec(text) ?? []
  if (first === undefined || Number(last) < Number(first)) throw new InvalidArgumentError('must be a number or a range such as 1-500')
  return Array.from({ length: Number(last) - Number(first) + 1 }, (_, at) => Number(first) + at)
}

/** Reads a list of names: none, all, or some. */
function namesOf<T extends string>(all: readonly T[]): (text: string) => readonly T[] {
  return (text) => {
    if (text === 'none') return []
    if (text === 'all') return all
    return text.split(/, ?/).map((name) => {
      const known = all.find((one) => one === name)
      if (known === undefined) throw new InvalidArgumentError(`must be none, all, or of: ${all.join(', ')} (got ${name})`)
      return known
    })
  }
}

function wholeNumber(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('must be a whole number')
  return Number(text)
}

const command = new Command('simulate')
  .description('Runs fleets of Tollgate on a virtual clock, and judges them by oracles that know only what was asked, seen and left.')
  .option('--seeds <range>', 'the seeds to run, such as 1-500', seedRange)
  .option('--seed <number>', 'one seed', wholeNumber)
  .option('--trace <id>', 'with --seed or --scenario: the story of one call, by its name (k12) or its id')
  .addOption(new Option('--faults <kinds>', 'the kinds of faults that a seed may draw: none, all, or a list').argParser(namesOf(FAULTS)).default(FAULTS, 'all'))
  .addOption(new Option('--features <names>', 'the features that a seed may draw: none, all, or a list').argParser(namesOf(FEATURES)).default(FEATURES, 'all'))
  .addOption(new Option('--has <names>', 'features and kinds of faults that each seed has').argParser(namesOf([...FEATURES, ...FAULTS])).default([], 'none'))
  .option('--scenario <name>', `a scenario, or all: ${SCENARIOS.map(({ name }) => name).join(', ')}`)
  .option('--program <folder>', 'the built project under test', process.cwd())
  .option('--processes <number>', 'how many simulate at once', wholeNumber, PROCESSES)
  .option('--stop-at-first', 'ends with the first report that no known fault explains')
  .option('--json', 'prints one line of JSON for each report, and one at the end')
  .option(
    '--eta [name]',
    'instead of seeds, fleets of 1,000 calls each that are told when they start: how many do then; all, or those whose name has this in it',
  )
  .option('--quiet', 'prints no line for a seed without a report')
  .option('--twice', 'runs each seed in two processes, and compares the runs byte by byte')
  .option('--small-scope [name]', `instead of seeds, every interleaving of a small fleet; all, or one of: ${SCOPES.map(({ name }) => name).join(', ')}`)
  .option('--quick', 'with --small-scope: as far as npm test goes')
  .option('--replay <path>', 'with --small-scope: the state after each action of a path, as a report names it')
  .option('--planted [names...]', 'plants faults into copies of the project, all or these, and looks for each in the seeds (default 1-200) and the small scope')
  .option('--list-planted', 'what the planted faults are, and which invariants they break')
  .option('--healthy <minutes>', 'instead of seeds, a fleet in which nothing is wrong (--seed, default 1): its verdicts', wholeNumber)
  .option('--record <file>', 'with --healthy: writes what the verdicts were made of, a line of JSON each, compressed by gzip')
  .option('--plant <names...>', 'plants these faults into one copy of the project, keeps it, and prints its folder, for --program')

async function main(): Promise<number> {
  const options = command.parse().opts<Options>()
  const missing = missingPart()
  if (missing !== undefined) {
    console.error(missing)
    return 2
  }
  const { smallScope: scope, planted, program, quick = false, replay, json = false, stopAtFirst = false } = options
  if (scope !== undefined)
    return smallScope({ program, quick, json, stopAtFirst, ...(scope === true ? {} : { scope }), ...(replay === undefined ? {} : { replay }) })
  if (options.eta !== undefined) return tellEta(program, options.eta === true ? undefined : options.eta)
  if (options.healthy !== undefined) return lookAtHealthy(options, options.healthy)
  if (options.listPlanted === true) return listPlanted()
  if (options.plant !== undefined) {
    console.log((await plant(...options.plant)).root)
    return 0
  }
  if (planted !== undefined) return lookForPlanted(planted === true ? [] : planted, options)
  const work = workOf(options)
  if (work.length === 0) command.help({ error: true })
  if (options.trace !== undefined) return trace(work[0] as Work, options.trace)
  return options.twice === true ? runTwice(work, options) : runAll(work, options)
}

async function tellEta(program: string, name?: string): Promise<number> {
  const server = await RealServer.start()
  console.log('| fleet | calls | on time | in range | median width | farthest off |\n| --- | --- | --- | --- | --- | --- |')
  const figures = await etaFigures(program, server, name)
  for (const { name: of, calls, onTime, inRange, width, worstMs } of figures)
    console.log(`| ${of} | ${calls} | ${percent(onTime)} | ${percent(inRange)} | ${percent(width)} | ${worstMs.toFixed(0)} ms |`)
  return figures.every(({ inRange }) => inRange >= 0.99) ? 0 : 1
}

/** The exit code is 1 where any verdict says that something is wrong. */
async function lookAtHealthy({ program, seed = 1, record }: Options, minutes: number): Promise<number> {
  const { looks, errors, ...counts } = await runHealthy(await loadProgram(program), program, await RealServer.start(), { seed, minutes })
  const alarms = looks.filter(({ health }) => !isCalm(health))
  for (const { atMs, health } of alarms) console.log(`${seconds(atMs)} ${JSON.stringify(health)}`)
  for (const error of errors) console.log(error)
  console.log(JSON.stringify({ minutes, looks: looks.length, alarms: alarms.length, ...counts }))
  if (record !== undefined) writeFileSync(record, gzipSync(looks.map(({ facts }) => JSON.stringify(facts)).join('\n'), { level: 9 }))
  return alarms.length + errors.length === 0 ? 0 : 1
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`
}

function listPlanted(): number {
  for (const { name, files, summary, breaks, needs, oracles } of plantedFaults())
    console.log(`${name} (${files.join(', ')})\n  ${summary}\n  breaks: ${breaks}\n  needs: ${needs}\n  seen by: ${oracles.join(', ')}`)
  return 0
}

async function lookForPlanted(names: readonly string[], { seeds = FOR_PLANTED, processes }: Options): Promise<number> {
  const all = names.length > 0 ? names : plantedFaults().map(({ name }) => name)
  return (await runPlanted(all, { first: seeds[0] as number, last: seeds.at(-1) as number }, processes)) ? 0 : 1
}

function workOf({ seeds, seed, scenario, faults, features, has, program }: Options): Work[] {
  const named = scenario === 'all' ? SCENARIOS.map(({ name }) => name) : scenario === undefined ? [] : [scenario]
  const numbers = seeds ?? (seed === undefined ? [] : [seed])
  const allowed: Allowed = { faults, features, has }
  return [...named.map((name) => ({ program, task: { scenario: name } })), ...numbers.map((number) => ({ program, task: { seed: number, ...allowed } }))]
}

async function trace(work: Work, id: string): Promise<number> {
  const server = await RealServer.start()
  const { simulated } = await simulate(await loadProgram(work.program), server, work, true)
  for (const line of storyOf(simulated, id)) console.log(line)
  return 0
}

/** Two processes do the same work, each with its own Redis. */
async function runTwice(work: readonly Work[], { processes }: Options): Promise<number> {
  const hashes = new Map<string, string>()
  await Promise.all(
    [0, 1].map((half) =>
      simulateAll(work, Math.max(1, Math.floor(processes / 2)), ({ name, hash }) => {
        hashes.set(`${name}/${half}`, hash)
        return true
      }),
    ),
  )
  const names = work.map(({ task }) => ('seed' in task ? `seed ${task.seed}` : task.scenario))
  const different = names.filter((name) => hashes.get(`${name}/0`) !== hashes.get(`${name}/1`))
  for (const name of different) console.log(`${name}: ${hashes.get(`${name}/0`)} in one process, ${hashes.get(`${name}/1`)} in the other`)
  console.log(`${names.length} runs, each in two processes: ${names.length - different.length} equal byte by byte, ${different.length} different`)
  return different.length === 0 ? 0 : 1
}

async function runAll(work: readonly Work[], options: Options): Promise<number> {
  const startedMs = real.elapsedMs()
  const commit = commitOf(options.program)
  const sums = { outcomes: 0, commands: 0, virtualMs: 0, reports: 0, known: 0 }
  const firsts = new Map<string, KnownFinding>()
  await simulateAll(work, options.processes, (outcome) => {
    const found = surprises(outcome)
    sums.outcomes++
    sums.commands += outcome.commands
    sums.virtualMs += outcome.virtualMs
    sums.reports += found.length
    sums.known += outcome.reports.length - found.length
    const elapsedS = (real.elapsedMs() - startedMs) / 1000
    for (const { known, oracle } of outcome.reports) {
      if (known === undefined) continue
      const first = firsts.get(known) ?? { name: known, where: outcome.name, seconds: elapsedS, oracles: new Set(), times: 0 }
      first.oracles.add(oracle)
      firsts.set(known, { ...first, times: first.times + 1 })
    }
    if (options.json === true)
      for (const { oracle, text, calls } of found) print({ seed: outcome.seed, name: outcome.name, oracle, text, calls, seconds: elapsedS })
    else if (options.quiet !== true || found.length > 0) printOutcome(outcome, commit)
    return options.stopAtFirst !== true || found.length === 0
  })
  const wallS = (real.elapsedMs() - startedMs) / 1000
  const perS = Math.round(sums.commands / wallS)
  if (options.json === true) print({ ...sums, seconds: wallS, commandsPerS: perS })
  else {
    printKnown([...firsts.values()])
    console.log(
      `${sums.outcomes} runs, ${sums.commands} commands (${perS}/s), ${(sums.virtualMs / 1000 / wallS).toFixed(0)} simulated seconds a second, ${wallS.toFixed(1)} s: ${sums.reports} reports, ${sums.known} of known faults`,
    )
  }
  return sums.reports === 0 ? 0 : 1
}

/** Where a known fault was found first. */
interface KnownFinding {
  readonly name: string
  readonly where: string
  readonly seconds: number
  readonly oracles: Set<string>
  readonly times: number
}

/** As a table of Markdown, which can stand in a page as it is. */
function printKnown(found: readonly KnownFinding[]): void {
  if (found.length === 0) return
  console.log('\n| known fault | found by | first in | after | reports |\n| --- | --- | --- | --- | --- |')
  for (const { name, where, seconds: s, oracles, times } of found)
    console.log(`| ${name} | ${[...oracles].join(', ')} | ${where} | ${s.toFixed(1)} s | ${times} |`)
  console.log('')
}

function print(line: object): void {
  console.log(JSON.stringify(line))
}

function printOutcome(outcome: Outcome, commit: string): void {
  const { name, hash, calls, runs, commands, virtualMs, wallMs, reports, features, faults } = outcome
  const known = reports.flatMap((report) => report.known ?? [])
  const expected = known.length === 0 ? '' : `, known: ${[...new Set(known)].join(', ')}`
  console.log(
    `${name}  ${hash}  ${calls} calls, ${runs} runs, ${commands} commands, ${(virtualMs / 1000).toFixed(0)} s in ${(wallMs / 1000).toFixed(1)} s${expected}`,
  )
  const found = surprises(outcome)
  if (found.length === 0) return
  console.log(`  commit ${commit}, features: ${features.join(', ') || 'none'}; faults: ${faults.join(', ') || 'none'}`)
  for (const { oracle, atMs, text, calls: about, journal } of found.slice(0, MOST_PRINTED)) {
    console.log(`  REPORT ${seconds(atMs)} ${oracle}: ${text}${about.length === 0 ? '' : ` [${about.slice(0, 5).join(', ')}]`}`)
    for (const line of journal) console.log(`      ${line}`)
  }
  if (found.length > MOST_PRINTED) console.log(`  and ${found.length - MOST_PRINTED} more`)
}

function commitOf(folder: string): string {
  try {
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: folder, stdio: ['ignore', 'pipe', 'ignore'] })
      .toString()
      .trim()
  } catch {
    return 'unknown'
  }
}

// A replaced clock keeps Node from ending by itself.
process.exit(await main())

import { RealServer } from '../world/server.js'
import { Agent } from './agent.js'
import { explore, type Finding } from './explore.js'
import { KNOWN, type KnownFault, knownFault } from './known.js'
import { loadProgram } from './program.js'
import { RedisStates } from './redis-states.js'
import { replay, THEN } from './replay.js'
import { scopeOf } from './scopes.js'
import { Setting } from './setting.js'
import { shrink } from './shrink.js'

export { SCOPES } from './scopes.js'

export interface ScopeOptions {
  /** The folder whose `dist/src` is the compiled program. */
  readonly program: string
  readonly maxStates: number
  /** Default: one of its own. */
  readonly server?: RealServer
  /** Ends with the first report that no known fault explains. */
  readonly stopAtFirst?: boolean
}

export interface ScopeReport {
  readonly text: string
  /** The names of actions that lead there; none of them can be left out. */
  readonly path: readonly string[]
  /** How often it was met. */
  readonly times: number
  /** Why it is expected. Reports of one known fault are one, with the shortest path. */
  readonly known?: string
}

export interface ScopeResult {
  readonly scope: string
  readonly states: number
  readonly transitions: number
  /** Whether all states were visited. */
  readonly complete: boolean
  /** How many different ends the fair completions came to. */
  readonly fairCompletions: number
  readonly seconds: number
  readonly reports: readonly ScopeReport[]
  /** Known faults of the scope that their paths do not show any more. */
  readonly notFound: readonly KnownFault[]
}

export async function exploreScope(name: string, { program, maxStates, server, stopAtFirst = false }: ScopeOptions): Promise<ScopeResult> {
  return inScope(name, program, server, async (setting, agent) => {
    const beganMs = performance.now()
    const { findings, ...found } = await explore(setting, agent, { maxStates, isEnough: (text) => stopAtFirst && knownFault(name, text) === undefined })
    const seconds = (performance.now() - beganMs) / 1000
    const reports: ScopeReport[] = []
    for (const { finding, known } of grouped(name, findings))
      reports.push({ ...(await shrink(setting, agent, finding)), ...(known === undefined ? {} : { known: `${known.name}: ${known.reason}` }) })
    const notFound: KnownFault[] = []
    for (const known of KNOWN.filter(({ scopes }) => scopes[0] === name)) if (!(await shows(setting, agent, known))) notFound.push(known)
    return { scope: name, ...found, seconds, reports, notFound }
  })
}

/** Prints the state after each step of a path, as a report names it. @returns whether each action of it was possible */
export async function replayPath(name: string, path: string, program: string, tell: (text: string) => void): Promise<boolean> {
  return inScope(name, program, undefined, async (setting, agent) => (await replay(setting, agent, path.split(THEN), tell)).possible)
}

async function shows(setting: Setting, agent: Agent, { path, text }: KnownFault): Promise<boolean> {
  const { reports } = await replay(setting, agent, path.split(THEN))
  return reports.some((report) => text.test(report))
}

/** What was found, and one finding for all that the same known fault explains: that with the shortest path. */
function grouped(scope: string, findings: readonly Finding[]): { finding: Finding; known: KnownFault | undefined }[] {
  const groups = new Map<KnownFault | Finding, { finding: Finding; known: KnownFault | undefined }>()
  for (const finding of [...findings].sort((one, other) => one.path.length - other.path.length)) {
    const known = knownFault(scope, finding.text)
    const first = groups.get(known ?? finding)?.finding
    const all = first === undefined ? finding : { ...first, times: first.times + finding.times }
    groups.set(known ?? finding, { finding: all, known })
  }
  return [...groups.values()]
}

/** Runs work in a scope. */
async function inScope<Result>(
  name: string,
  root: string,
  given: RealServer | undefined,
  work: (setting: Setting, agent: Agent) => Promise<Result>,
): Promise<Result> {
  const scope = scopeOf(name)
  const server = given ?? (await RealServer.start())
  const machineNow = Date.now
  try {
    const setting = new Setting(await loadProgram(root), scope, new RedisStates(server))
    Date.now = setting.programNow
    await setting.prepare()
    return await work(setting, new Agent(setting))
  } finally {
    Date.now = machineNow
    if (given === undefined) server.stop()
  }
}

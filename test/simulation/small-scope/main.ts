import { RealServer } from '../world/server.js'
import { Agent } from './agent.js'
import { explore, type Finding } from './explore.js'
import { KNOWN, type KnownFault, knownFault } from './known.js'
import { loadProgram } from './program.js'
import { RedisStates } from './redis-states.js'
import { replay, THEN } from './replay.js'
import type { Scope } from './scope.js'
import { scopeOf } from './scopes.js'
import { Setting } from './setting.js'
import { shrink } from './shrink.js'

export { SCOPES } from './scopes.js'

export interface ScopeResult {
  readonly scope: string
  readonly states: number
  readonly transitions: number
  /** Whether all states were visited. */
  readonly complete: boolean
  /** How many different ends the fair completions came to. */
  readonly fairCompletions: number
  readonly seconds: number
  readonly reports: readonly Finding[]
  /** Known faults of the scope that a complete exploration did not find. */
  readonly notFound: readonly KnownFault[]
}

/** @param program the folder whose `dist/src` is the compiled program */
export async function exploreScope(name: string, { program, maxStates }: { program: string; maxStates: number }): Promise<ScopeResult> {
  return inScope(scopeOf(name), program, async (setting, agent) => {
    const beganMs = performance.now()
    const { findings, ...found } = await explore(setting, agent, maxStates)
    const seconds = (performance.now() - beganMs) / 1000
    const reports: Finding[] = []
    for (const finding of findings) {
      const known = knownFault(name, finding.text)?.reason
      reports.push({ ...(await shrink(setting, agent, finding)), ...(known === undefined ? {} : { known }) })
    }
    const notFound = KNOWN.filter(({ scopes, text }) => found.complete && scopes.includes(name) && !findings.some((one) => text.test(one.text)))
    return { scope: name, ...found, seconds, reports, notFound }
  })
}

/** Prints the state after each step of a path, as a report names it. @returns whether each action of it was possible */
export async function replayPath(name: string, path: string, program: string, tell: (text: string) => void): Promise<boolean> {
  return inScope(scopeOf(name), program, async (setting, agent) => (await replay(setting, agent, path.split(THEN), tell)).possible)
}

/** Runs work in a scope, on a Redis of its own. */
async function inScope<Result>(scope: Scope, root: string, work: (setting: Setting, agent: Agent) => Promise<Result>): Promise<Result> {
  const server = await RealServer.start()
  const machineNow = Date.now
  try {
    const setting = new Setting(await loadProgram(root), scope, new RedisStates(server))
    Date.now = setting.programNow
    await setting.prepare()
    return await work(setting, new Agent(setting))
  } finally {
    Date.now = machineNow
    server.stop()
  }
}

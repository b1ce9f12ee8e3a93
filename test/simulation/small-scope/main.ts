import { RealServer } from '../world/server.js'
import { Agent } from './agent.js'
import { explore, type Finding } from './explore.js'
import { loadProgram } from './program.js'
import { RedisStates } from './redis-states.js'
import { replay, THEN } from './replay.js'
import { type Scope, scopeOf } from './scope.js'
import { Setting } from './setting.js'

export { SCOPES } from './scope.js'

export interface ScopeResult {
  readonly scope: string
  readonly states: number
  readonly transitions: number
  readonly complete: boolean
  readonly fairCompletions: number
  readonly seconds: number
  readonly reports: readonly Finding[]
}

/** @param program the folder whose `dist/src` is the compiled program */
export async function exploreScope(name: string, { program, maxStates }: { program: string; maxStates: number }): Promise<ScopeResult> {
  const scope = scopeOf(name)
  return inScope(scope, program, async (setting, agent) => {
    const beganMs = performance.now()
    const { findings, ...found } = await explore(setting, agent, maxStates)
    return { scope: name, ...found, seconds: (performance.now() - beganMs) / 1000, reports: findings }
  })
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

/** Prints the state after each step of a path, as a report names it. */
export async function replayPath(name: string, path: string, program: string, tell: (text: string) => void): Promise<boolean> {
  return inScope(scopeOf(name), program, async (setting, agent) => (await replay(setting, agent, path.split(THEN), tell)).possible)
}

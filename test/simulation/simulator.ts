import { loadProgram, type Program } from './fleet/program.js'
import { runFleet, type SimulatedFleet } from './fleet/run-fleet.js'
import { drawFleet } from './fleet/spec.js'
import { outcomeOf } from './outcome.js'
import { scenarioNamed } from './scenarios/index.js'
import type { Work } from './work.js'
import { RealServer } from './world/server.js'

/** Enough for the lines around a report. */
const KEPT_LINES = 200_000

/** Does one piece of work in this process. @param details keeps every command and reply, for the story of a call */
export async function simulate(program: Program, server: RealServer, { task }: Work, details = false): Promise<{ name: string; simulated: SimulatedFleet }> {
  const named = 'scenario' in task
  const spec = named ? scenarioNamed(task.scenario).fleet : drawFleet(task.seed, task)
  return { name: named ? task.scenario : `seed ${task.seed}`, simulated: await runFleet(program, server, spec, { keepLines: KEPT_LINES, details }) }
}

/** A simulating process: does what its parent sends, one after the other. The program is loaded once, for the first work. */
async function serve(): Promise<void> {
  const server = await RealServer.start()
  let program: Program | undefined
  for (;;) {
    const work = await new Promise<Work>((resolve) => process.once('message', (message) => resolve(message as Work)))
    program ??= await loadProgram(work.program)
    const { name, simulated } = await simulate(program, server, work)
    process.send?.(outcomeOf(name, simulated))
  }
}

if (process.send !== undefined) {
  process.once('disconnect', () => process.exit(0))
  await serve()
}

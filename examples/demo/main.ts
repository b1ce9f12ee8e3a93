import { constants } from 'node:os'
import { type DemoArguments, readArguments, USAGE } from './arguments.js'
import { burstPlan } from './burst-plan.js'
import { run } from './run.js'
import { succeeded, summary } from './summary.js'
import { tracePlan } from './trace-plan.js'
import { viewFor } from './view.js'

/** How long the process may linger at its end: a connection to a Redis that is gone would keep it alive for ever. */
const LINGER_MS = 500

/** The demo was ended by a signal, which is no fault. */
class Stopped extends Error {
  readonly exitCode: number

  constructor(signal: NodeJS.Signals) {
    super(`stopped by ${signal}`)
    this.exitCode = 128 + constants.signals[signal]
  }
}

async function demo({ trace, speed }: DemoArguments): Promise<number> {
  const plan = trace === undefined ? burstPlan() : await tracePlan(trace, speed)
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop.abort(new Stopped(signal)))
  // The parent process, which started the Redis too, has died: end as when a terminal is closed.
  process.once('disconnect', () => stop.abort(new Stopped('SIGHUP')))
  process.channel?.unref()
  console.log(`${plan.title}\n`)
  const { progress, agent } = await run(plan, process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379', viewFor(process.stdout), stop.signal)
  console.log(`\n${summary(plan, progress, agent)}\n`)
  for (const reason of new Set(progress.failures)) console.error(`a call failed: ${reason}`)
  return succeeded(progress, agent) ? 0 : 1
}

try {
  const given = readArguments(process.argv.slice(2))
  if (given === 'help') console.log(USAGE)
  else process.exitCode = await demo(given)
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  if (error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS')) console.error(USAGE)
  process.exitCode = error instanceof Stopped ? error.exitCode : 1
}
setTimeout(() => process.exit(), LINGER_MS).unref()

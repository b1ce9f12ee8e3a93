import { Command } from 'commander'
import { runWorker } from '../src/cli/run-worker.js'
import { workerFlags } from '../src/cli/worker-flags.js'
import { workerConfig } from '../src/config/worker-config.js'
import { TollgateError } from '../src/errors.js'

// A worker process of its own: settings, signals, start, drain, exit.
const command = workerFlags(new Command('agent').description('a worker process that calls its agents over HTTP')).parse()
try {
  process.exitCode = await runWorker(await workerConfig(command.opts(), process.env))
} catch (error) {
  if (!(error instanceof TollgateError)) throw error
  console.error(`${error.code}: ${error.message}\n${error.todo}`)
  process.exitCode = 2
}

import { Command } from 'commander'
import { fail } from '../src/cli/exit-codes.js'
import { runWorker } from '../src/cli/run-worker.js'
import { workerConfig, workerFlags } from '../src/cli/worker-config.js'

// A worker process of its own: settings, signals, start, drain, exit.
const command = workerFlags(new Command('agent').description('a worker process that calls its agents over HTTP')).parse()
try {
  await runWorker(await workerConfig(command.opts(), process.env))
} catch (error) {
  fail(error)
}

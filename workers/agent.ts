import { Command } from 'commander'
import { fail } from '../src/cli/common.js'
import { runWorker } from '../src/cli/run-worker.js'
import { workerConfig, workerFlags } from '../src/cli/worker-config.js'

// The entry file of a worker process: reads the settings, runs until a signal stops it, sets the exit code.
const command = workerFlags(new Command('agent').description('a worker process that calls its agents over HTTP')).parse()
try {
  await runWorker(await workerConfig(command.opts(), process.env))
} catch (error) {
  fail(error)
}

import { Command } from 'commander'
import { TollgateError } from '../model/errors.js'
import { callCommands } from './calls.js'
import { common, examples, print } from './common.js'
import { completionScript, SHELLS } from './completion.js'
import { serverFlags, workerFlags } from './flags.js'
import { healthCommands } from './health.js'
import { historyCommands } from './history.js'
import { keysCommands } from './keys.js'
import { meterCommands } from './meters.js'
import { administrationCommands } from './overrides.js'
import { rulesCommands } from './rules.js'
import { waitingCommands } from './waiting.js'

// What a command needs to do its work is imported when it is run: `tollgate --help` and the completion of a shell load none of it.

/** The command line. Commander names the nearest command or flag where one is misspelt. */
export function makeProgram(version: string, description: string): Command {
  const program = new Command('tollgate').description(description).version(version)

  examples(
    workerFlags(program.command('worker').description('run a worker process that calls its agents over HTTP')),
    'worker --rules tollgate.yaml --concurrency 100',
    'worker --rules tollgate.yaml --metrics-port 9464',
  ).action(async (flags: Record<string, unknown>) => {
    const [{ runWorker }, { workerConfig }] = await Promise.all([import('./run-worker.js'), import('./worker-config.js')])
    await runWorker(await workerConfig(flags, process.env))
  })

  examples(
    serverFlags(program.command('serve').description('serve the library over HTTP, and pass requests of clients on to their agents')),
    'serve --rules tollgate.yaml --port 8787',
  ).action(async (flags: Record<string, unknown>) => {
    const [{ runServer }, { serverConfig }] = await Promise.all([import('./run-server.js'), import('./server-config.js')])
    await runServer(await serverConfig(flags, process.env), version)
  })

  callCommands(program)
  rulesCommands(program)
  administrationCommands(program)
  keysCommands(program)
  waitingCommands(program)
  meterCommands(program)
  healthCommands(program)
  historyCommands(program)

  examples(common(program.command('metrics').description('the metrics of the namespace, as Prometheus reads them')), 'metrics | grep tollgate_ledger').action(
    async (options) => {
      const { runMetrics } = await import('./run-metrics.js')
      await runMetrics(options)
    },
  )

  examples(
    common(program.command('top').description('what is limited, by what and since when, as it goes on'))
      .option('--every <seconds>', 'how often it looks (default: 2)')
      .option('--once', 'look once, and end'),
    'top',
    'top --once --json',
  ).action(async (options) => {
    const { runTop } = await import('./run-top.js')
    await runTop(options)
  })

  examples(
    common(program.command('doctor').description('check Redis and what is in it, and say how to mend each finding')),
    'doctor --redis redis://localhost:6379',
  ).action(async (options) => {
    const { runDoctor } = await import('./run-doctor.js')
    await runDoctor(options)
  })

  examples(
    program.command('completion <shell>').description('print the script by which a shell (bash, zsh or fish) completes commands and flags'),
    'completion bash >> ~/.bashrc',
    'completion fish | source',
  ).action((name: string) => {
    const shell = SHELLS.find((one) => one === name)
    if (shell === undefined) throw new TollgateError('REQUEST_INVALID', `shell: must be one of ${SHELLS.join(', ')} (got ${name})`)
    print(completionScript(program, shell), false)
  })

  return program
}

#!/usr/bin/env node
import { createRequire } from 'node:module'
import { Command } from 'commander'
import type { Call } from '../model/call.js'
import { validateCall } from '../validation/call.js'
import { type Common, common, EXIT, fail, parseJson, withTollgate } from './common.js'
import { healthCommands } from './health.js'
import { keysCommands } from './keys.js'
import { meterCommands } from './meters.js'
import { administrationCommands } from './overrides.js'
import { rulesCommands } from './rules.js'
import { serverConfig, serverFlags } from './server-config.js'
import { waitingCommands } from './waiting.js'
import { workerConfig, workerFlags } from './worker-config.js'

const { version, description } = createRequire(import.meta.url)('tollgate/package.json') as { version: string; description: string }

function parseCall(text: string): Call {
  return validateCall(parseJson(text, 'call', 'CALL_INVALID'))
}

const program = new Command('tollgate').description(description).version(version)

workerFlags(program.command('worker').description('run a worker process that calls its agents over HTTP')).action(async (flags: Record<string, unknown>) => {
  // Here and not at the top: other commands need no metrics and no HTTP agents.
  const { runWorker } = await import('./run-worker.js')
  await runWorker(await workerConfig(flags, process.env))
})

serverFlags(program.command('serve').description('serve the library over HTTP, and pass requests of clients on to their agents')).action(
  async (flags: Record<string, unknown>) => {
    const { runServer } = await import('./run-server.js')
    await runServer(await serverConfig(flags, process.env), version)
  },
)

common(program.command('enqueue <call>').description('enqueue a call, given as JSON').option('--wait', 'wait for its result')).action(
  async (text: string, options: Common & { wait?: boolean }) => {
    const call = parseCall(text)
    await withTollgate(options, async (tollgate) => {
      const ticket = await tollgate.enqueue(call)
      const { id, decision } = ticket
      return { prints: options.wait === true ? { id, result: await ticket.result() } : { id, decision } }
    })
  },
)

common(program.command('check <call>').description('what the gate would decide on a call; charges nothing')).action(async (text: string, options: Common) => {
  const call = parseCall(text)
  await withTollgate(options, async (tollgate) => {
    const answer = await tollgate.gate.peek(call)
    return { prints: answer, ok: answer.allowed }
  })
})

common(program.command('explain <id>').description('where a call stands, what it waits for, and for how long')).action((id: string, options: Common) =>
  withTollgate(options, async (tollgate) => ({ prints: await tollgate.explain(id) })),
)

common(program.command('cancel <id>').description('take a call back')).action((id: string, options: Common) =>
  withTollgate(options, async (tollgate) => {
    const cancelled = await tollgate.cancel(id)
    return { prints: { id, cancelled }, ok: cancelled }
  }),
)

rulesCommands(program)
administrationCommands(program)
keysCommands(program)
waitingCommands(program)
meterCommands(program)
healthCommands(program)

try {
  await program.parseAsync()
} catch (error) {
  fail(error)
  // A connection that never came up keeps the process alive for two seconds more.
  if (process.exitCode === EXIT.unavailable) process.exit()
}

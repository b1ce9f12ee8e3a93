#!/usr/bin/env node
import { createRequire } from 'node:module'
import { Command } from 'commander'
import { type Call, validateCall } from '../call.js'
import { workerConfig } from '../config/worker-config.js'
import { TollgateError } from '../errors.js'
import { DEFAULT_URL } from '../redis/connection.js'
import { readRules } from '../rules/read.js'
import { Tollgate } from '../tollgate.js'
import { EXIT, fail } from './exit-codes.js'
import { runWorker } from './run-worker.js'
import { workerFlags } from './worker-flags.js'

interface Common {
  redis?: string
  namespace?: string
  queue?: string
  json?: boolean
}

const { version, description } = createRequire(import.meta.url)('tollgate/package.json') as { version: string; description: string }

function print(value: unknown, json: boolean | undefined): void {
  console.log(json === true ? JSON.stringify(value) : JSON.stringify(value, null, 2))
}

async function withTollgate(options: Common, use: (tollgate: Tollgate) => Promise<number>): Promise<void> {
  const tollgate = await Tollgate.open({ redis: options.redis ?? process.env['REDIS_URL'] ?? DEFAULT_URL, namespace: options.namespace, queue: options.queue })
  try {
    process.exitCode = await use(tollgate)
  } finally {
    await tollgate.close()
  }
}

function parseCall(text: string): Call {
  let input: unknown
  try {
    input = JSON.parse(text)
  } catch (cause) {
    throw new TollgateError('CALL_INVALID', `call is not JSON: ${cause instanceof Error ? cause.message : String(cause)}`)
  }
  return validateCall(input)
}

function common(command: Command): Command {
  return command
    .option('--redis <url>', 'redis:// or rediss:// URL (default: REDIS_URL, else localhost)')
    .option('--namespace <name>', 'the gate (default: default)')
    .option('--queue <name>', 'the BullMQ queue (default: calls)')
    .option('--json', 'one line of JSON')
}

const program = new Command('tollgate').description(description).version(version)

workerFlags(program.command('worker').description('run a worker process that calls its agents over HTTP')).action(async (flags: Record<string, unknown>) => {
  await runWorker(await workerConfig(flags, process.env))
})

common(program.command('enqueue <call>').description('enqueue a call, given as JSON').option('--wait', 'wait for its result')).action(
  async (text: string, options: Common & { wait?: boolean }) => {
    const call = parseCall(text)
    await withTollgate(options, async (tollgate) => {
      const ticket = await tollgate.enqueue(call)
      if (options.wait === true) print({ id: ticket.id, result: await ticket.result() }, options.json)
      else print({ id: ticket.id, decision: ticket.decision }, options.json)
      return EXIT.ok
    })
  },
)

common(program.command('check <call>').description('what the gate would say to a call; charges nothing')).action(async (text: string, options: Common) => {
  const call = parseCall(text)
  await withTollgate(options, async (tollgate) => {
    const answer = await tollgate.gate.peek(call)
    print(answer, options.json)
    return answer.allowed ? EXIT.ok : EXIT.failed
  })
})

common(program.command('explain <id>').description('where a call stands, what it waits for, and for how long')).action((id: string, options: Common) =>
  withTollgate(options, async (tollgate) => {
    print(await tollgate.explain(id), options.json)
    return EXIT.ok
  }),
)

common(program.command('cancel <id>').description('take a call back')).action((id: string, options: Common) =>
  withTollgate(options, async (tollgate) => {
    const cancelled = await tollgate.cancel(id)
    print({ id, cancelled }, options.json)
    return cancelled ? EXIT.ok : EXIT.failed
  }),
)

const rules = program.command('rules').description('the rules of a namespace')
common(rules.command('list').description('the rules in force')).action((options: Common) =>
  withTollgate(options, async (tollgate) => {
    print(tollgate.rules.list(), options.json)
    return EXIT.ok
  }),
)
common(rules.command('apply <file>').description('make a rules file the namespace’s, everywhere within a second; usage is kept')).action(
  (file: string, options: Common) =>
    withTollgate(options, async (tollgate) => {
      await tollgate.rules.apply(file)
      print({ applied: tollgate.rules.list().length }, options.json)
      return EXIT.ok
    }),
)
rules
  .command('test <file>')
  .description('check a rules file; changes nothing and needs no Redis')
  .option('--json', 'one line of JSON')
  .action(async (file: string, options: Common) => {
    const content = await readRules(file)
    print({ valid: true, rules: content.rules.length, agents: Object.keys(content.agents) }, options.json)
  })

try {
  await program.parseAsync()
} catch (error) {
  fail(error)
}

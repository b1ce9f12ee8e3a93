import type { Command } from 'commander'
import { TollgateError } from '../model/errors.js'
import { DEFAULT_URL } from '../redis/connection.js'
import { Tollgate } from '../tollgate.js'

/** What commands take that ask a namespace. */
export interface Common {
  redis?: string
  namespace?: string
  queue?: string
  json?: boolean
}

export function print(value: unknown, json: boolean | undefined): void {
  console.log(json === true ? JSON.stringify(value) : JSON.stringify(value, null, 2))
}

export async function withTollgate(options: Common, use: (tollgate: Tollgate) => Promise<number>): Promise<void> {
  const tollgate = await Tollgate.open({
    redis: options.redis ?? process.env['REDIS_URL'] ?? DEFAULT_URL,
    namespace: options.namespace,
    queue: options.queue,
    actor: process.env['USER'] || undefined,
  })
  try {
    process.exitCode = await use(tollgate)
  } finally {
    await tollgate.close()
  }
}

/** Who changes something: as said, else the user of the machine. */
export interface ByFlag {
  by?: string
}

/** What was given as JSON. @throws the error of that code */
export function parseJson(text: string, what: string, code: 'CALL_INVALID' | 'RULES_INVALID' | 'REQUEST_INVALID'): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new TollgateError(code, `${what} is not JSON: ${cause instanceof Error ? cause.message : String(cause)}`)
  }
}

export function common(command: Command): Command {
  return command
    .option('--redis <url>', 'redis:// or rediss:// URL (default: REDIS_URL, else localhost)')
    .option('--namespace <name>', 'the gate (default: default)')
    .option('--queue <name>', 'the BullMQ queue (default: calls)')
    .option('--json', 'one line of JSON')
}

/** A command that changes something, which the audit notes. */
export function changing(command: Command): Command {
  return common(command).option('--by <who>', 'who changes it, for the audit (default: the user of this machine)')
}

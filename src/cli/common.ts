import type { Command } from 'commander'
import { TollgateError } from '../model/errors.js'
import { DEFAULT_URL } from '../redis/connection.js'
import { Tollgate } from '../tollgate.js'

/** Flags of every command that opens a Tollgate. */
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

/** The actor of a change; without the flag the user of the machine. */
export interface ByFlag {
  by?: string
}

/** The value of a JSON text. @throws TollgateError with that code */
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

/** Flags of a command that makes a change which the audit notes. */
export function changing(command: Command): Command {
  return common(command).option('--by <who>', 'who changes it, for the audit (default: the user of this machine)')
}

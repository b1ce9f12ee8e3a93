import { userInfo } from 'node:os'
import type { Command } from 'commander'
import type { Call } from '../model/call.js'
import { type ErrorCode, TollgateError } from '../model/errors.js'
import type { Tollgate } from '../tollgate.js'
import { render, screenOf } from './table.js'

/** ok: done; failed: refused or failed; invalid: the input was not valid; unavailable: Redis did not answer. */
export const EXIT = { ok: 0, failed: 1, invalid: 2, unavailable: 3 } as const

/** As in `src/redis/connection.ts`, which loads the client of Redis: for help that takes longer than all the rest. */
const DEFAULT_URL = 'redis://localhost:6379'

export const UNAVAILABLE: readonly ErrorCode[] = ['REDIS_UNAVAILABLE', 'STORE_UNAVAILABLE']

const COMMAND_LINE = 'command line'

/** How long a command waits for a Redis that does not answer, in ms: someone sits before it. */
export const REDIS_TIMEOUT_MS = 1500

/** Prints an error of Tollgate to standard error and sets its exit code; throws every other error again. */
export function fail(error: unknown): void {
  if (!(error instanceof TollgateError)) throw error
  console.error(`${error.code}: ${error.message}\n${error.todo}`)
  process.exitCode = UNAVAILABLE.includes(error.code) ? EXIT.unavailable : error.code.endsWith('_INVALID') ? EXIT.invalid : EXIT.failed
}

/** Flags of every command that opens a Tollgate. */
export interface Common {
  redis?: string
  namespace?: string
  prefix?: string
  queue?: string
  json?: boolean
}

/**
 * Prints a value: as one line of JSON, or as a human reads it.
 * @param text for humans, where the value itself is not what they read best
 */
export function print(value: unknown, json: boolean | undefined, text?: string): void {
  console.log(json === true ? JSON.stringify(value) : (text ?? render(value, screenOf())))
}

/** What a command prints; it fails where `ok` is false. */
interface Outcome {
  readonly prints: unknown
  /** The same for people, without `--json`. */
  readonly text?: string
  readonly ok?: boolean
}

/** The actor of changes without `--by`: containers often have no USER, and no name for their user. */
function userOfMachine(): string {
  if (process.env['USER']) return process.env['USER']
  try {
    return userInfo().username || COMMAND_LINE
  } catch {
    return COMMAND_LINE
  }
}

/** The address of the Redis of a command. */
export function redisUrl({ redis }: Common): string {
  return redis ?? process.env['REDIS_URL'] ?? DEFAULT_URL
}

export async function openTollgate(options: Common): Promise<Tollgate> {
  // Here and not at the top: help needs none of it.
  const { Tollgate } = await import('../tollgate.js')
  return Tollgate.open({
    redis: redisUrl(options),
    namespace: options.namespace,
    prefix: options.prefix,
    queue: options.queue,
    actor: userOfMachine(),
    requireRedis: true,
    connectTimeoutMs: REDIS_TIMEOUT_MS,
    enqueueTimeoutMs: REDIS_TIMEOUT_MS,
    onStoreError: 'closed',
  })
}

/** Opens a Tollgate, prints the outcome of a command with it, and sets the exit code. */
export async function withTollgate(options: Common, use: (tollgate: Tollgate) => Promise<Outcome>): Promise<void> {
  const tollgate = await openTollgate(options)
  try {
    const { prints, text, ok = true } = await use(tollgate)
    print(prints, options.json, text)
    process.exitCode = ok ? EXIT.ok : EXIT.failed
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

/** A call in JSON. @throws CallInvalid */
export async function parseCall(text: string): Promise<Call> {
  const given = parseJson(text, 'call', 'CALL_INVALID')
  const { validateCall } = await import('../validation/call.js')
  return validateCall(given)
}

/** Examples below the help of a command. */
export function examples(command: Command, ...lines: readonly string[]): Command {
  return command.addHelpText('after', `\nExamples:\n${lines.map((line) => `  $ tollgate ${line}`).join('\n')}`)
}

export function common(command: Command): Command {
  return command
    .option('--redis <url>', 'redis://, rediss://, sentinel://, redis-cluster:// or unix:// URL (default: REDIS_URL, else localhost)')
    .option('--namespace <name>', 'the gate (default: default)')
    .option('--prefix <prefix>', 'of the keys, where the app has its own')
    .option('--queue <name>', 'the BullMQ queue (default: calls)')
    .option('--json', 'one line of JSON')
}

/** Flags of a command that makes a change which the audit notes. */
export function changing(command: Command): Command {
  return common(command).option('--by <who>', 'who changes it, for the audit (default: USER, else the user of the process)')
}

import path from 'node:path'
import { pathToFileURL } from 'node:url'
import type { CallRequest } from '../../../src/admission/request.js'
import type { Resolver } from '../../../src/admission/resolver.js'
import type { Call } from '../../../src/model/call.js'
import type { Costs } from '../../../src/model/cost.js'
import type { Clock } from '../../../src/model/time.js'
import type { RuleSet } from '../../../src/policy/compile.js'
import type { RuleSpec } from '../../../src/policy/rule.js'
import type { Upstream } from '../../../src/policy/upstream-block.js'
import type { LineScan } from '../../../src/queue/line-scan.js'
import type { Keys } from '../../../src/redis/keys.js'
import type { ScriptClient } from '../../../src/store/redis/script-client.js'
import type { RespValue } from '../world/resp.js'

/** The commands of a Redis client that the program's script client and its readers of lines use. */
export interface RedisCommands {
  call(...args: (string | number)[]): Promise<RespValue>
  callBuffer(...args: (string | number)[]): Promise<RespValue>
  get(key: string): Promise<string | null>
  mget(keys: readonly string[]): Promise<(string | null)[]>
  zrange(key: string, ...args: (string | number)[]): Promise<string[]>
}

/**
 * The parts of the program that an exploration runs: what builds and reads script calls, and what reads lines and records. BullMQ and the processes are
 * models (`model.ts`). A program is loaded from the folder it was compiled into, so that a copy with a planted fault can be explored as well.
 */
export interface Program {
  readonly ScriptClient: new (redis: RedisCommands, resolver: Resolver, clock: Clock) => ScriptClient
  readonly Resolver: new (ruleSet: RuleSet, keys: Keys, estimate: undefined, upstream: Upstream) => Resolver
  readonly Keys: new (namespace: string) => Keys
  readonly LineScan: new (redis: RedisCommands, scriptClient: ScriptClient, clock: Clock) => LineScan
  compileRules(declared: readonly RuleSpec[]): RuleSet
  callRequest(scriptClient: ScriptClient, id: string, token: string, call: Call, costs: Costs): CallRequest
  restoredRequest(scriptClient: ScriptClient, id: string, record: string | null): CallRequest
  readRecord(record: string | null): { readonly state: 'waiting' | 'passed' | 'started'; readonly line: string } | null
  leave(scriptClient: ScriptClient, request: CallRequest): Promise<void>
  delayMs(etaMs: number | null): number
  slotsOf(request: CallRequest): { key: string }[]
}

const PARTS: readonly (readonly [file: string, names: readonly (keyof Program)[]])[] = [
  ['store/redis/script-client.js', ['ScriptClient', 'slotsOf']],
  ['admission/resolver.js', ['Resolver']],
  ['redis/keys.js', ['Keys']],
  ['queue/line-scan.js', ['LineScan']],
  ['policy/compile.js', ['compileRules']],
  ['queue/stored-call.js', ['callRequest', 'restoredRequest', 'readRecord', 'leave', 'delayMs']],
]

/** @param root the folder whose `dist/src` is the compiled program */
export async function loadProgram(root: string): Promise<Program> {
  const found: Partial<Record<keyof Program, unknown>> = {}
  for (const [file, names] of PARTS) {
    const module = (await import(pathToFileURL(path.resolve(root, 'dist/src', file)).href)) as Partial<Record<keyof Program, unknown>>
    for (const name of names) {
      if (module[name] === undefined) throw new Error(`${file} of the program in ${root} has no ${name}: the small scope has to be brought up to date`)
      found[name] = module[name]
    }
  }
  return found as Program
}

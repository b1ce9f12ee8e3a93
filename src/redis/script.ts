import { createHash } from 'node:crypto'
import type { Redis } from 'ioredis'
import { withoutArguments } from '../model/secrets.js'
import { LUA_TEXT } from './lua-text.js'
import { replicated } from './replicas.js'
import { isStoreError } from './store-error.js'

const INCLUDE = /^--- @include "([^"]+)"$/gm

function luaText(path: string): string {
  const text = LUA_TEXT[path]
  if (text === undefined) throw new Error(`there is no lua/${path} in this build`)
  return text
}

/** A Lua file with each file that it includes in the place of the include; a file that is already in `included` is left out. */
function readLua(path: string, included: Set<string>): string {
  if (included.has(path)) return ''
  included.add(path)
  return luaText(path).replace(INCLUDE, (_, other: string) => readLua(other, included))
}

/** The text of everything that a Lua file includes, and the file without its includes. */
export function splitLua(path: string, included: Set<string>): { libraries: string; body: string } {
  const source = luaText(path)
  const libraries = [...source.matchAll(INCLUDE)].map(([, other]) => readLua(other as string, included)).join('')
  return { libraries, body: source.replace(INCLUDE, '') }
}

type Argument = string | number

/**
 * Scripts that give room back, or keep leases: a Redis that is out of memory still runs them,
 * or it would stay full. It refuses every other script before the script has written anything.
 */
const ALLOWED_OUT_OF_MEMORY: ReadonlySet<string> = new Set(['settle', 'release', 'reset', 'renew', 'lease'])

/**
 * All scripts as one library of Redis Functions. Redis sets up the code that the scripts share once per load and not once per call (a third of the
 * cost of a single check). The name of the library is a hash of its content, so two versions of Tollgate on one Redis use two libraries.
 */
export class Library {
  readonly name: string
  private readonly source: string
  private readonly loading = new WeakMap<Redis, Promise<void>>()

  /** @param constants Lua that declares what the scripts and TypeScript both know; it goes before everything else */
  constructor(
    scripts: readonly string[],
    readonly constants: string,
  ) {
    const included = new Set<string>()
    const parts = scripts.map((script) => ({ script, ...splitLua(`${script}.lua`, included) }))
    const libraries = constants + parts.map(({ libraries }) => libraries).join('')
    const hash = createHash('sha1')
      .update(libraries)
      .update(parts.map(({ body }) => body).join(''))
      .digest('hex')
    this.name = `tollgate_${hash.slice(0, 16)}`
    const bodies = parts.map(({ script, body }) => `verbs['${script}'] = function()\n${body}\nend\n`).join('')
    const functions = parts.map(({ script }) => {
      const callback = `function(keys, args)\nKEYS, ARGV = keys, args\nset_up()\nreturn verbs['${script}']()\nend`
      const flags = ALLOWED_OUT_OF_MEMORY.has(script) ? "'allow-oom'" : ''
      return `redis.register_function{ function_name = '${this.functionName(script)}', callback = ${callback}, flags = { ${flags} } }\n`
    })
    // While Redis loads a library, Lua's own functions are not there yet; so the first call sets the library up.
    this.source = `#!lua name=${this.name}
local KEYS, ARGV, verbs
local function set_up()
if verbs then return end
${libraries}
verbs = {}
${bodies}end
${functions.join('')}`
  }

  functionName(script: string): string {
    return `${this.name}_${script.replaceAll('-', '_')}`
  }

  /** Sends the library to Redis: once, however many scripts find it missing at the same time. */
  load(redis: Redis): Promise<void> {
    let loading = this.loading.get(redis)
    if (loading === undefined) {
      loading = this.send(redis).finally(() => this.loading.delete(redis))
      this.loading.set(redis, loading)
    }
    return loading
  }

  private async send(redis: Redis): Promise<void> {
    try {
      await redis.call('function', 'load', this.source)
    } catch (error) {
      // Another process has loaded it in the meantime.
      if (!(error instanceof Error) || !error.message.includes('already exists')) throw withoutArguments(error)
    }
  }
}

/** Connections to servers without Redis Functions (before 7.0), or that refuse them: scripts are sent by EVALSHA there. */
const withoutFunctions = new WeakSet<Redis>()

function startsWith(error: unknown, ...texts: string[]): boolean {
  return error instanceof Error && texts.some((text) => error.message.startsWith(text))
}

/** How servers, proxies and hosted Redises say that there is no such command, or not for this user. */
const NO_SUCH_COMMAND =
  /\b(unknown|unsupported|disabled|forbidden|denied|not (?:be )?(?:available|allowed|supported|permitted|implemented|enabled|recogni[sz]ed|support)|no permissions?)\b/i
/** What Redis says of an error that a script met while it ran. */
const IN_SCRIPT = /\bscript: |@user_(function|script)|user_function:|user_script:/

/** Whether a server refuses a command as such, in whatever words; the command was not run then. */
export function refusesCommand(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const { message } = error
  if (IN_SCRIPT.test(message) || isStoreError(error)) return false
  return message.startsWith('NOPERM') || NO_SUCH_COMMAND.test(message)
}

export interface ScriptOptions {
  readonly binary?: boolean
  readonly replicated?: boolean
}

/**
 * A Lua file as a typed function. The library is loaded, and the script sent again, where Redis answers that it does not know the function (after a
 * restart without its data, FUNCTION FLUSH or SCRIPT FLUSH). No other error leads to a second attempt: the script may have run.
 */
export class Script<Reply> {
  private source: string | undefined
  private sha = ''

  /**
   * @param options.binary whether the reply is bytes rather than text
   * @param options.replicated whether replicas are waited for, where some are needed: what it charges would be let in again after a failover
   */
  constructor(
    readonly name: string,
    private readonly library: Library,
    private readonly options: ScriptOptions = {},
  ) {}

  async run(redis: Redis, keys: readonly string[], args: readonly Argument[]): Promise<Reply> {
    const reply = await this.send(redis, keys, args)
    if (this.options.replicated === true) await replicated(redis)
    return reply
  }

  private async send(redis: Redis, keys: readonly string[], args: readonly Argument[]): Promise<Reply> {
    if (!withoutFunctions.has(redis)) {
      const send = () => this.sendCommand(redis, 'fcall', this.library.functionName(this.name), keys, args)
      try {
        return await send().catch(async (error: unknown) => {
          if (!startsWith(error, 'ERR Function not found')) throw error
          await this.library.load(redis)
          return send()
        })
      } catch (error) {
        if (!refusesCommand(error)) throw error
        withoutFunctions.add(redis)
      }
    }
    return this.runScript(redis, keys, args)
  }

  private async runScript(redis: Redis, keys: readonly string[], args: readonly Argument[]): Promise<Reply> {
    if (this.source === undefined) {
      const { libraries, body } = splitLua(`${this.name}.lua`, new Set())
      // The script is a function of its own, as in the library: one Lua function may have 200 local names at most.
      this.source = `${this.library.constants}${libraries}return (function()\n${body}\nend)()`
      this.sha = createHash('sha1').update(this.source).digest('hex')
    }
    try {
      return await this.sendCommand(redis, 'evalsha', this.sha, keys, args)
    } catch (error) {
      // It may be that functions were refused for a moment only: a user that was changed.
      if (refusesCommand(error)) withoutFunctions.delete(redis)
      if (!startsWith(error, 'NOSCRIPT')) throw error
      return await this.sendCommand(redis, 'eval', this.source, keys, args)
    }
  }

  private sendCommand(redis: Redis, command: 'fcall' | 'eval' | 'evalsha', script: string, keys: readonly string[], args: readonly Argument[]): Promise<Reply> {
    const all = [script, keys.length, ...keys, ...args]
    const sent = (this.options.binary ? redis.callBuffer(command, ...all) : redis.call(command, ...all)) as Promise<Reply>
    return sent.catch((error: unknown) => Promise.reject(withoutArguments(error)))
  }
}

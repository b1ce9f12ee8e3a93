import { createHash } from 'node:crypto'
import type { Redis } from 'ioredis'
import { LUA_TEXT } from './lua-text.js'

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
 * What gives room back, or keeps what is held: a Redis that is out of memory takes these still,
 * or it would stay full. It refuses all else as a whole, before anything is written.
 */
const GIVE_BACK: ReadonlySet<string> = new Set(['settle', 'release', 'reset', 'renew'])

/**
 * All scripts as one library of Redis Functions: what they share is set up once, when it is
 * loaded, and not for every call (a third of the cost of a single check). Its name is that
 * of its content, so two versions of Tollgate do not meet in it.
 */
export class Library {
  readonly name: string
  private readonly source: string
  private readonly loading = new WeakMap<Redis, Promise<void>>()

  constructor(scripts: readonly string[]) {
    const included = new Set<string>()
    const parts = scripts.map((script) => ({ script, ...splitLua(`${script}.lua`, included) }))
    const libraries = parts.map(({ libraries }) => libraries).join('')
    const hash = createHash('sha1')
      .update(libraries)
      .update(parts.map(({ body }) => body).join(''))
      .digest('hex')
    this.name = `tollgate_${hash.slice(0, 16)}`
    const bodies = parts.map(({ script, body }) => `verbs['${script}'] = function()\n${body}\nend\n`).join('')
    const functions = parts.map(({ script }) => {
      const callback = `function(keys, args)\nKEYS, ARGV = keys, args\nset_up()\nreturn verbs['${script}']()\nend`
      const flags = GIVE_BACK.has(script) ? "'allow-oom'" : ''
      return `redis.register_function{ function_name = '${this.functionName(script)}', callback = ${callback}, flags = { ${flags} } }\n`
    })
    // While a library is loaded it sees nothing of Lua's own; so it is set up by the first call.
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

  /** Once for all who find it missing at the same time. */
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
      // Another process was faster.
      if (!(error instanceof Error) || !error.message.includes('already exists')) throw error
    }
  }
}

/** Servers that know no functions, or users who may not load them: there every call is a script of its own. */
const withoutFunctions = new WeakSet<Redis>()

function says(error: unknown, ...texts: string[]): boolean {
  return error instanceof Error && texts.some((text) => error.message.startsWith(text))
}

/**
 * A Lua file as a typed function. It is loaded when Redis says that it does not know it (after
 * a restart without its data, FUNCTION FLUSH or SCRIPT FLUSH), and for no other error: any
 * other failure may mean that it has run.
 */
export class Script<Reply> {
  readonly name: string
  private readonly library: Library
  private readonly binary: boolean
  private source: string | undefined
  private sha = ''

  /** @param binary whether the reply is bytes rather than text */
  constructor(name: string, library: Library, options: { binary?: boolean } = {}) {
    this.name = name
    this.library = library
    this.binary = options.binary ?? false
  }

  async run(redis: Redis, keys: readonly string[], args: readonly Argument[]): Promise<Reply> {
    if (withoutFunctions.has(redis)) return this.runScript(redis, keys, args)
    const name = this.library.functionName(this.name)
    try {
      return await this.send(redis, 'fcall', name, keys, args)
    } catch (error) {
      if (says(error, 'ERR unknown command', 'NOPERM')) return this.withoutFunctions(redis, keys, args)
      if (!says(error, 'ERR Function not found')) throw error
    }
    try {
      await this.library.load(redis)
    } catch (error) {
      if (says(error, 'ERR unknown command', 'NOPERM')) return this.withoutFunctions(redis, keys, args)
      throw error
    }
    return this.send(redis, 'fcall', name, keys, args)
  }

  private withoutFunctions(redis: Redis, keys: readonly string[], args: readonly Argument[]): Promise<Reply> {
    withoutFunctions.add(redis)
    return this.runScript(redis, keys, args)
  }

  private async runScript(redis: Redis, keys: readonly string[], args: readonly Argument[]): Promise<Reply> {
    if (this.source === undefined) {
      const { libraries, body } = splitLua(`${this.name}.lua`, new Set())
      // A function of its own, as in the library: Lua bears 200 local names in one.
      this.source = `${libraries}return (function()\n${body}\nend)()`
      this.sha = createHash('sha1').update(this.source).digest('hex')
    }
    try {
      return await this.send(redis, 'evalsha', this.sha, keys, args)
    } catch (error) {
      if (!says(error, 'NOSCRIPT')) throw error
      return await this.send(redis, 'eval', this.source, keys, args)
    }
  }

  private send(redis: Redis, command: 'fcall' | 'eval' | 'evalsha', script: string, keys: readonly string[], args: readonly Argument[]): Promise<Reply> {
    const all = [script, keys.length, ...keys, ...args]
    return (this.binary ? redis.callBuffer(command, ...all) : redis.call(command, ...all)) as Promise<Reply>
  }
}

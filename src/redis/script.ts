import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { Redis } from 'ioredis'

const require = createRequire(import.meta.url)

function readLua(path: string, included: Set<string>): string {
  if (included.has(path)) return ''
  included.add(path)
  const source = readFileSync(require.resolve(`#lua/${path}`), 'utf8')
  return source.replace(/^--- @include "([^"]+)"$/gm, (_, other: string) => readLua(other, included))
}

/**
 * A Lua script as a typed function. It is called by its SHA and loaded when Redis says
 * NOSCRIPT (after a restart or SCRIPT FLUSH), and for no other error: any other failure
 * may mean that it has run.
 */
export class Script<Reply> {
  readonly name: string
  private readonly source: string
  private readonly sha: string
  private readonly binary: boolean

  /** @param binary whether the reply is bytes rather than text */
  constructor(name: string, options: { binary?: boolean } = {}) {
    this.name = name
    this.source = readLua(`${name}.lua`, new Set())
    this.sha = createHash('sha1').update(this.source).digest('hex')
    this.binary = options.binary ?? false
  }

  async run(redis: Redis, keys: readonly string[], args: readonly (string | number)[]): Promise<Reply> {
    try {
      return await this.send(redis, 'evalsha', this.sha, keys, args)
    } catch (error) {
      if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error
      return await this.send(redis, 'eval', this.source, keys, args)
    }
  }

  private send(redis: Redis, command: 'eval' | 'evalsha', script: string, keys: readonly string[], args: readonly (string | number)[]): Promise<Reply> {
    const all = [script, keys.length, ...keys, ...args]
    return (this.binary ? redis.callBuffer(command, ...all) : redis.call(command, ...all)) as Promise<Reply>
  }
}

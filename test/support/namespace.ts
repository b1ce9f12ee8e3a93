import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { pino } from 'pino'
import { inject } from 'vitest'
import { Tollgate, type TollgateOptions } from '../../src/index.js'
import { connect } from '../../src/redis/connection.js'
import { Keys } from '../../src/redis/keys.js'

/** A namespace of one test: its Tollgates are closed when the test ends, and its keys are checked and removed. */
export class Namespace {
  readonly name = `t-${randomUUID()}`
  readonly keys = new Keys(this.name)
  readonly redis: Redis
  private readonly opened: Tollgate[] = []

  constructor(readonly url: string) {
    this.redis = /^redis:/.test(url) ? new Redis(url, { maxRetriesPerRequest: null, retryStrategy: () => 50 }) : connect(url, this.keys.prefix).client
    this.redis.on('error', () => {})
  }

  async open(options: TollgateOptions = {}): Promise<Tollgate> {
    const tollgate = await Tollgate.open({ redis: this.url, namespace: this.name, logger: pino({ level: 'silent' }), ...options })
    this.opened.push(tollgate)
    return tollgate
  }

  /** Every key of the namespace but those of the heartbeats and the history, which processes write every second or two whatever a test does. */
  async allKeys(): Promise<string[]> {
    const { members, seen, troubled, prefix } = this.keys
    return (await this.keysWithMembers()).filter((key) => ![members, seen, troubled].includes(key) && !/^\/[tyz]\//.test(key.slice(prefix.length)))
  }

  private async keysWithMembers(): Promise<string[]> {
    const pattern = `${this.keys.prefix.replace(/[{}]/g, '\\$&')}*`
    const found: string[] = []
    for await (const batch of this.redis.scanStream({ match: pattern, count: 1000 })) found.push(...(batch as string[]))
    return found.sort()
  }

  /** @returns what a finished test must not leave: keys of Tollgate without an end, and jobs that have not run */
  async end(): Promise<string[]> {
    await Promise.all(this.opened.map((tollgate) => tollgate.close()))
    const left: string[] = []
    for (const key of await this.keysWithMembers()) {
      const ours = key.startsWith(`${this.keys.prefix}/`)
      if (ours && ![this.keys.rules, this.keys.apiKeys].includes(key) && (await this.redis.pttl(key)) === -1) left.push(`key without an end: ${key}`)
      if (!ours && /:(wait|active|delayed|prioritized)$/.test(key)) left.push(`job left in ${key}`)
    }
    const all = await this.keysWithMembers()
    if (all.length > 0) await this.redis.del(...all)
    this.redis.disconnect()
    return left
  }
}

const namespaces: Namespace[] = []

/** @param url default: the Redis that all tests share */
export function newNamespace(url: string = inject('redisUrl')): Namespace {
  const namespace = new Namespace(url)
  namespaces.push(namespace)
  return namespace
}

export async function endNamespaces(): Promise<string[]> {
  const left = await Promise.all(namespaces.splice(0).map((namespace) => namespace.end()))
  return left.flat()
}

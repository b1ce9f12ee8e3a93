import { createHash, randomBytes } from 'node:crypto'
import type { Redis } from 'ioredis'
import { z } from 'zod'
import type { Clock } from '../model/time.js'
import type { Keys } from '../redis/keys.js'
import { scripts } from '../store/redis/scripts.js'
import { callName } from '../validation/call.js'
import { actorOf, checkRequest, moment, plainName } from '../validation/requests.js'

/** A key to issue. Calls that are made with it are those of its org, team and user. */
export interface ApiKeySpec {
  org?: string | undefined
  team?: string | undefined
  user?: string | undefined
  /** The agents that it may call; default all. */
  agents?: readonly string[] | undefined
  /** Until when it holds: ISO 8601 or a Date; default for ever. */
  until?: string | Date | undefined
  by?: string | undefined
}

/** An issued key, without the key itself: that is shown once, when it is created, and kept nowhere. */
export interface ApiKey {
  readonly id: string
  readonly org?: string | undefined
  readonly team?: string | undefined
  readonly user?: string | undefined
  readonly agents?: readonly string[] | undefined
  readonly createdAt: string
  readonly until: string | null
  readonly by: string
  readonly revokedAt: string | null
}

export const apiKeySchema = z
  .strictObject({
    org: callName.optional(),
    team: callName.optional(),
    user: callName.optional(),
    agents: z.array(callName).min(1).max(1000).optional(),
    until: moment.optional(),
    by: plainName.optional(),
  })
  .refine(({ org, team, user }) => (org ?? team ?? user) !== undefined, {
    path: ['org'],
    message: 'or team or user is required: whose calls are made with the key',
  })

/** What issued keys begin with: a scanner for secrets finds them. */
export const API_KEY_PREFIX = 'tg_'
const TRIES = 50
/** How long a process goes by what it has read of a key: a key that was revoked holds for so long. */
const REMEMBERED_MS = 1000
const MOST_REMEMBERED = 10_000

function hashOf(key: string): string {
  return createHash('sha256').update(key).digest('hex')
}

/**
 * API keys of clients (`tollgate.keys`). Redis holds the SHA-256 of each: keys are random, 256 bits, so a slow hash would add nothing. A change and its
 * entry in the audit are one script. If the process dies in between, there is neither.
 */
export class ApiKeys {
  private remembered = new Map<string, { readonly atMs: number; readonly key: Promise<ApiKey | null> }>()

  constructor(
    private readonly parts: { readonly redis: Redis; readonly keys: Keys; readonly clock: Clock; readonly actor: string; readonly retentionMs: () => number },
  ) {}

  /** Issues a key. @returns it, this once, and what is known of it. @throws RequestInvalid naming field, value and bound */
  async create(spec: ApiKeySpec): Promise<ApiKey & { readonly key: string }> {
    const { by, until, ...identity } = checkRequest(apiKeySchema, spec, 'key')
    const key = `${API_KEY_PREFIX}${randomBytes(32).toString('base64url')}`
    const nowMs = await this.nowMs()
    const issued: ApiKey = {
      id: randomBytes(6).toString('hex'),
      ...identity,
      createdAt: new Date(nowMs).toISOString(),
      until: until === undefined ? null : new Date(until).toISOString(),
      by: actorOf(by, this.parts.actor),
      revokedAt: null,
    }
    await this.write(async () => ({ hash: hashOf(key), becomes: issued, by: issued.by, what: 'key.created', before: null }))
    return { ...issued, key }
  }

  /** Ends a key, everywhere within a second. Returns whether it was in force. @throws RequestInvalid */
  async revoke(id: string, { by }: { by?: string | undefined } = {}): Promise<boolean> {
    const actor = actorOf(by, this.parts.actor)
    const revokedAt = new Date(await this.nowMs()).toISOString()
    return this.write(async () => {
      const [hash, before] = [...(await this.all())].find(([, key]) => key.id === id && key.revokedAt === null) ?? []
      return hash === undefined || before === undefined ? undefined : { hash, becomes: { ...before, revokedAt }, by: actor, what: 'key.revoked', before }
    })
  }

  /** All keys that were issued, those that were revoked included, in the order in which they were. */
  async list(): Promise<ApiKey[]> {
    return [...(await this.all()).values()].sort((one, other) => one.createdAt.localeCompare(other.createdAt))
  }

  /** What is known of a key that is in force now; null where it is none, was revoked or has ended. */
  async find(key: string): Promise<ApiKey | null> {
    const hash = hashOf(key)
    const atMs = performance.now()
    let known = this.remembered.get(hash)
    if (known === undefined || atMs - known.atMs > REMEMBERED_MS) {
      if (this.remembered.size >= MOST_REMEMBERED) this.remembered.clear()
      known = { atMs, key: this.parts.redis.hget(this.parts.keys.apiKeys, hash).then((json) => (json === null ? null : JSON.parse(json))) }
      this.remembered.set(hash, known)
      known.key.catch(() => this.remembered.delete(hash))
    }
    const found = await known.key
    return found === null || found.revokedAt !== null || (found.until !== null && Date.parse(found.until) <= Date.now()) ? null : found
  }

  private async all(): Promise<Map<string, ApiKey>> {
    const fields = Object.entries(await this.parts.redis.hgetall(this.parts.keys.apiKeys)).filter(([name]) => name !== 'version')
    return new Map(fields.map(([hash, json]) => [hash, JSON.parse(json) as ApiKey]))
  }

  /** @param change is asked again where another process wrote in between; undefined: there is nothing to write */
  private async write(
    change: () => Promise<{ hash: string; becomes: ApiKey; by: string; what: 'key.created' | 'key.revoked'; before: ApiKey | null } | undefined>,
  ): Promise<boolean> {
    const { redis, keys, clock, retentionMs } = this.parts
    for (let tries = 0; tries < TRIES; tries++) {
      const version = (await redis.hget(keys.apiKeys, 'version')) ?? ''
      const changed = await change()
      if (changed === undefined) return false
      const { hash, becomes, by, what, before } = changed
      this.remembered.delete(hash)
      const entry = [by, what, becomes.id, JSON.stringify(before), JSON.stringify(becomes)]
      const parts = ['version', randomBytes(8).toString('hex'), hash, JSON.stringify(becomes)]
      const args = [clock.forScripts(), version, '', '{}', retentionMs(), parts.length / 2, ...parts, ...entry]
      if ((await scripts.writePolicy.run(redis, [keys.apiKeys, keys.notices, keys.audit], args)) === 1) return true
    }
    throw new Error(`${TRIES} other changes of keys came in between`)
  }

  private async nowMs(): Promise<number> {
    const given = this.parts.clock.forScripts()
    return given === '' ? Number((await this.parts.redis.time())[0]) * 1000 : Number(given)
  }
}

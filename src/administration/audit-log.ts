import type { Redis } from 'ioredis'
import type { AuditEntry, AuditNote, Change, CheckedQuery } from './audit.js'

/** How many entries are looked through in one round trip. */
const READ_AT_ONCE = 500

/** What was changed, in the order in which it was. Nothing in it is ever changed; what is older than the retention goes. */
export interface AuditLog {
  /** The newest first. */
  read(query: CheckedQuery): Promise<AuditEntry[]>
}

/** The audit of a process that is alone: gone with it. */
export class MemoryLog implements AuditLog {
  private entries: AuditEntry[] = []
  private count = 0

  append(noted: readonly AuditNote[], nowMs: number, retentionMs: number): void {
    const at = new Date(nowMs).toISOString()
    // As they would come back from Redis: whoever changes what was given changes no entry.
    for (const one of noted) this.entries.push({ ...(structuredClone(one) as AuditNote), id: `${Math.floor(nowMs)}-${this.count++}`, at })
    this.entries = this.entries.filter((entry) => Date.parse(entry.at) >= nowMs - retentionMs)
  }

  async read({ sinceMs, untilMs, limit, fits }: CheckedQuery): Promise<AuditEntry[]> {
    const within = this.entries.filter((entry) => Date.parse(entry.at) >= sinceMs && Date.parse(entry.at) <= untilMs && fits(entry))
    return within.reverse().slice(0, limit)
  }
}

function entryOf([id, fields]: [id: string, fields: string[]]): AuditEntry {
  const field = (name: string) => fields[fields.indexOf(name) + 1] ?? ''
  return {
    id,
    at: new Date(Number(id.split('-')[0])).toISOString(),
    by: field('by'),
    what: field('what') as Change,
    subject: field('subject'),
    before: JSON.parse(field('before')),
    after: JSON.parse(field('after')),
  }
}

/** The id before another, in the order of a stream. */
function before(id: string): string {
  const [ms = '0', sequence = '0'] = id.split('-')
  return sequence === '0' ? `${Number(ms) - 1}` : `${ms}-${BigInt(sequence) - 1n}`
}

/** The audit of a namespace: a stream, to which the scripts append that change something. */
export class RedisLog implements AuditLog {
  private readonly redis: Redis
  private readonly key: string

  constructor(redis: Redis, key: string) {
    this.redis = redis
    this.key = key
  }

  async read({ sinceMs, untilMs, limit, fits }: CheckedQuery): Promise<AuditEntry[]> {
    const found: AuditEntry[] = []
    const since = String(Math.max(0, Math.ceil(sinceMs)))
    let until = String(Math.max(0, Math.floor(untilMs)))
    while (found.length < limit) {
      const entries = await this.redis.xrevrange(this.key, until, since, 'COUNT', READ_AT_ONCE)
      for (const entry of entries.map(entryOf)) if (found.length < limit && fits(entry)) found.push(entry)
      const last = entries.at(-1)
      if (last === undefined || entries.length < READ_AT_ONCE) break
      until = before(last[0])
    }
    return found
  }
}

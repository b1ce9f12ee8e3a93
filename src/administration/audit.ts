import type { Redis } from 'ioredis'
import { z } from 'zod'
import { DEFAULTS } from '../model/defaults.js'
import { checkRequest, moment, plainName } from '../validation/requests.js'

const CHANGES = [
  'rules.declared',
  'rules.restored',
  'rule.added',
  'rule.updated',
  'rule.removed',
  'capacity.set',
  'override.granted',
  'override.revoked',
  'override.ended',
  'calls.paused',
  'calls.resumed',
  'limiter.reset',
  'meter.reset',
  'upstream.lifted',
  'settings.changed',
  'algorithms.declared',
  'key.created',
  'key.revoked',
] as const
export type Change = (typeof CHANGES)[number]

/** One change, to be appended to the audit in the same transaction as the change itself. */
export interface AuditNote {
  /** The actor: the `by` of the change, else the Tollgate's `actor`, else "unknown"; "tollgate" where an override reached its end, or a lost policy was declared anew. */
  readonly by: string
  readonly what: Change
  /** What was changed: the name of a rule, the id of an override, the subject of a pause, a limiter and its key. */
  readonly subject: string
  /** The former state; null where it did not exist. */
  readonly before: unknown
  /** The new state; null where it no longer exists. */
  readonly after: unknown
}

export interface AuditEntry extends AuditNote {
  readonly id: string
  /** The time of the change by Redis' clock, ISO 8601. */
  readonly at: string
}

/** Selects entries of the audit; all fields are optional and combined by "and". */
export interface AuditQuery {
  /** The earliest time: ISO 8601 or a Date. */
  since?: string | Date | undefined
  /** The latest time: ISO 8601 or a Date. */
  until?: string | Date | undefined
  by?: string | undefined
  what?: Change | undefined
  /** The most entries, the newest first: 1 to 10,000; default 100. */
  limit?: number | undefined
}

/** A checked query; times in ms since the epoch. */
export type CheckedQuery = ReturnType<typeof checkQuery>

export const auditSchema = z.strictObject({
  since: moment.default(0),
  until: moment.default(Number.MAX_SAFE_INTEGER),
  by: plainName.optional(),
  what: z.enum(CHANGES).optional(),
  limit: z.number().int().min(1).max(10_000).default(DEFAULTS.auditEntries),
})

/** Checks a query and fills in its defaults. @throws RequestInvalid naming field, value and bound */
export function checkQuery(query: AuditQuery) {
  const { since: sinceMs, until: untilMs, by, what, limit } = checkRequest(auditSchema, query, 'audit')
  return {
    sinceMs,
    untilMs,
    limit,
    fits: (entry: AuditEntry) => (by === undefined || entry.by === by) && (what === undefined || entry.what === what),
  }
}

const READ_AT_ONCE = 500
const GROUPS_AT_MOST = 1000

/** The append-only log of changes. Entries older than the retention are removed. */
export interface AuditLog {
  /** The matching entries, the newest first. */
  read(query: CheckedQuery): Promise<AuditEntry[]>
}

/** The audit of a Tollgate without Redis: lost with its process. */
export class MemoryLog implements AuditLog {
  private entries: AuditEntry[] = []
  private count = 0
  /** The entries that count resets of limiters, by actor and limiters. */
  private readonly counting = new Map<string, { entry: AuditEntry; resets: number; sinceMs: number }>()

  append(noted: readonly AuditNote[], nowMs: number, retentionMs: number): void {
    const at = new Date(nowMs).toISOString()
    // Clones, as from Redis: objects that the application changes later leave the entries as they are.
    for (const note of noted) this.entries.push({ ...(structuredClone(note) as AuditNote), id: `${Math.floor(nowMs)}-${this.count++}`, at })
    this.entries = this.entries.filter((entry) => Date.parse(entry.at) >= nowMs - retentionMs).slice(-DEFAULTS.auditAtMost)
  }

  /** Appends a reset of limiters: it takes the place of the one before it, and counts them. The twin is `Audit.count` in `lua/lib/audit.lua`. */
  countReset(noted: AuditNote, limiters: string, nowMs: number, retentionMs: number): void {
    const group = `${noted.by}\n${limiters}`
    const known = this.counting.get(group)
    const goesOn = known !== undefined && nowMs - known.sinceMs < DEFAULTS.countedResetsMs
    if (goesOn) this.entries = this.entries.filter((entry) => entry !== known.entry)
    const [resets, sinceMs] = goesOn ? [known.resets + 1, known.sinceMs] : [1, nowMs]
    this.append([{ ...noted, after: { resets } }], nowMs, retentionMs)
    if (this.counting.size > GROUPS_AT_MOST) this.counting.clear()
    this.counting.set(group, { entry: this.entries.at(-1) as AuditEntry, resets, sinceMs })
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

/** The greatest id of a stream that is smaller than another. */
function previousId(id: string): string {
  const [ms = '0', sequence = '0'] = id.split('-')
  return sequence === '0' ? `${Number(ms) - 1}` : `${ms}-${BigInt(sequence) - 1n}`
}

/** The audit of a namespace: a Redis stream, which each script that changes something appends to. */
export function redisLog(redis: Redis, key: string): AuditLog {
  return {
    async read({ sinceMs, untilMs, limit, fits }) {
      const found: AuditEntry[] = []
      const since = String(Math.max(0, Math.ceil(sinceMs)))
      let until = String(Math.max(0, Math.floor(untilMs)))
      while (found.length < limit) {
        const entries = await redis.xrevrange(key, until, since, 'COUNT', READ_AT_ONCE)
        for (const entry of entries.map(entryOf)) if (found.length < limit && fits(entry)) found.push(entry)
        const last = entries.at(-1)
        if (last === undefined || entries.length < READ_AT_ONCE) break
        until = previousId(last[0])
      }
      return found
    },
  }
}

import { z } from 'zod'
import { DEFAULTS } from '../config/defaults.js'
import { checkRequest, moment, who } from '../config/requests.js'
import { type AuditEntry, CHANGES, type Change } from './entry.js'

/** What of the audit is wanted; all of it is optional. */
export interface AuditQuery {
  /** Not before: ISO 8601 or a date. */
  since?: string | Date | undefined
  /** Not after. */
  until?: string | Date | undefined
  by?: string | undefined
  what?: Change | undefined
  /** How many at most, the newest first: 1 to 10,000, default 100. */
  limit?: number | undefined
}

/** A query that was checked. Times in ms. */
export interface CheckedQuery {
  readonly sinceMs: number
  readonly untilMs: number
  readonly limit: number
  fits(entry: AuditEntry): boolean
}

const schema = z.strictObject({
  since: moment.optional(),
  until: moment.optional(),
  by: who.optional(),
  what: z.enum(CHANGES).optional(),
  limit: z.number().int().min(1).max(10_000).default(DEFAULTS.auditEntries),
})

/** @throws RequestInvalid naming field, value and bound */
export function checkQuery(query: AuditQuery): CheckedQuery {
  const { since, until, by, what, limit } = checkRequest(schema, query, 'audit')
  return {
    sinceMs: since ?? 0,
    untilMs: until ?? Number.MAX_SAFE_INTEGER,
    limit,
    fits: (entry) => (by === undefined || entry.by === by) && (what === undefined || entry.what === what),
  }
}

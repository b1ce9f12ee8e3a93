import { z } from 'zod'
import { DEFAULTS } from '../model/defaults.js'
import { checkRequest, moment, plainName } from '../validation/requests.js'

/** What can be changed while a namespace runs, as the audit calls it. */
export const CHANGES = [
  'rules.declared',
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
  'settings.changed',
] as const
export type Change = (typeof CHANGES)[number]

/** One change, as it is noted: together with the change itself, or not at all. */
export interface AuditNote {
  /** Who changed it: as they said, else the Tollgate's `actor`, else "unknown"; "tollgate" where an override ended by itself. */
  readonly by: string
  readonly what: Change
  /** The name of what was changed: a rule, the id of an override, whom a pause is for, a limiter and its key. */
  readonly subject: string
  /** As it was; null where it was not there. */
  readonly before: unknown
  /** As it is now; null where it is gone. */
  readonly after: unknown
}

/** One entry of the audit. */
export interface AuditEntry extends AuditNote {
  readonly id: string
  /** When, by Redis' clock: ISO 8601. */
  readonly at: string
}

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

const querySchema = z.strictObject({
  since: moment.optional(),
  until: moment.optional(),
  by: plainName.optional(),
  what: z.enum(CHANGES).optional(),
  limit: z.number().int().min(1).max(10_000).default(DEFAULTS.auditEntries),
})

/** @throws RequestInvalid naming field, value and bound */
export function checkQuery(query: AuditQuery): CheckedQuery {
  const { since, until, by, what, limit } = checkRequest(querySchema, query, 'audit')
  return {
    sinceMs: since ?? 0,
    untilMs: until ?? Number.MAX_SAFE_INTEGER,
    limit,
    fits: (entry) => (by === undefined || entry.by === by) && (what === undefined || entry.what === what),
  }
}

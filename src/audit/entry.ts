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
export interface Noted {
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
export interface AuditEntry extends Noted {
  readonly id: string
  /** When, by Redis' clock: ISO 8601. */
  readonly at: string
}

/** Who changed something that nobody put a name to. */
export const UNKNOWN_ACTOR = 'unknown'
/** Who ends overrides whose time is over. */
export const TIME_ACTOR = 'tollgate'

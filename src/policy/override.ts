import type { LimitSpec } from '../limits/limit.js'

export const OVERRIDABLE = ['user', 'team', 'org', 'ip', 'agent', 'rule'] as const
export type Overridable = (typeof OVERRIDABLE)[number]

export const REASONS = ['emergency_access', 'incident', 'maintenance', 'testing', 'customer_request', 'other'] as const
export type Reason = (typeof REASONS)[number]

/**
 * What an override allows: no limit at all; limits and bursts multiplied by `times` (above 0, at
 * most 1e6; below 1 allows less); or other `limits` in place of the rule's.
 */
export type Allowance = 'unlimited' | { readonly times: number } | { readonly limits: readonly LimitSpec[] }

/** A temporary exception from rules. */
export interface Override {
  readonly id: string
  /** The subject, by exactly one field: a rule (all its meters), or a user, team, org, ip or agent (its meters in the rules that count by it). An ip is an address or a CIDR range. */
  readonly for: { readonly [Kind in Overridable]?: string | undefined }
  /** The rules that it applies to, by name or glob; default all. */
  readonly rules?: readonly string[] | undefined
  readonly allow: Allowance
  /** Whether it lifts every rule for the calls of its subject, not only those that count by it; for `unlimited` only. */
  readonly everything?: boolean | undefined
  readonly reason: Reason
  readonly text?: string | undefined
  /** The actor that granted it. */
  readonly by: string
  /** ISO 8601, by Redis' clock. */
  readonly grantedAt: string
  /** The end of the override: ISO 8601, by Redis' clock. */
  readonly until: string
}

/** Permanent lists of subjects without a limit, in the rules that count by them: administrators, for example. Names may be globs (* and ?). */
export interface Exempt {
  users?: string[] | undefined
  teams?: string[] | undefined
  orgs?: string[] | undefined
  agents?: string[] | undefined
  /** Addresses or CIDR ranges. */
  ips?: string[] | undefined
}

export function endOf({ until }: Override): number {
  return Date.parse(until)
}

/** The subject of an override or a pause, as kind and value. */
export function subjectOf({ for: subject }: Pick<Override, 'for'>): readonly [Overridable, string] {
  const kind = OVERRIDABLE.find((one) => subject[one] !== undefined) ?? 'user'
  return [kind, subject[kind] ?? '']
}

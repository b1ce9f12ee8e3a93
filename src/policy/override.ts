import type { LimitSpec } from '../limits/limit.js'

/** Whom an override can be for. */
export const OVERRIDABLE = ['user', 'team', 'org', 'ip', 'agent', 'rule'] as const
export type Overridable = (typeof OVERRIDABLE)[number]

/** Why somebody is allowed more, or less, than the rules say. */
export const REASONS = ['emergency_access', 'incident', 'maintenance', 'testing', 'customer_request', 'other'] as const
export type Reason = (typeof REASONS)[number]

/**
 * What an override allows: no limit at all; limits and bursts times a number (below 1 for
 * less); or limits of its own in place of the rule's.
 */
export type Allowance = 'unlimited' | { readonly times: number } | { readonly limits: readonly LimitSpec[] }

/** An exception from rules, for some time. */
export interface Override {
  readonly id: string
  /**
   * Exactly one of them. A user, team, org, ip (an address or a CIDR range) or agent: the
   * meters of rules that count by it. A rule: all its meters.
   */
  readonly for: { readonly [Kind in Overridable]?: string | undefined }
  /** The rules that it is for, by name or glob; default all. */
  readonly rules?: readonly string[] | undefined
  readonly allow: Allowance
  readonly reason: Reason
  readonly text?: string | undefined
  /** Who granted it. */
  readonly by: string
  /** By Redis' clock, ISO 8601; so is `until`. */
  readonly grantedAt: string
  readonly until: string
}

/** Who is unlimited for good, in the rules that count by it: administrators. Globs: * and ?. */
export interface Exempt {
  users?: string[] | undefined
  teams?: string[] | undefined
  orgs?: string[] | undefined
  agents?: string[] | undefined
  /** Addresses or CIDR ranges. */
  ips?: string[] | undefined
}

/** When an override ends, in ms since the epoch. */
export function endOf({ until }: Override): number {
  return Date.parse(until)
}

/** Whom an override is for, as kind and value. */
export function subjectOf({ for: subject }: Pick<Override, 'for'>): readonly [Overridable, string] {
  const kind = OVERRIDABLE.find((one) => subject[one] !== undefined) ?? 'user'
  return [kind, subject[kind] ?? '']
}

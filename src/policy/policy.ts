import { createHash } from 'node:crypto'
import { DEFAULTS } from '../model/defaults.js'
import type { PriceTable } from '../pricing/prices.js'
import { type AlertPlan, NO_ALERTS } from './alert.js'
import type { Exempt, Override } from './override.js'
import type { Pause } from './pause.js'
import type { RuleSpec } from './rule.js'

/** Settings that all processes of a namespace share. */
export interface Settings {
  /** How long entries of the audit are kept, in ms; default 90 days. */
  readonly auditRetentionMs?: number | undefined
}

/** Everything that is set for a namespace. The whole has one version and changes atomically. */
export interface Policy {
  /** The rules that a file or an application declared. A new declaration replaces them, with `prices`, `exempt`, `degradeTo` and `endpoints`. */
  readonly declared: readonly RuleSpec[]
  readonly prices: Readonly<PriceTable>
  readonly exempt: Exempt
  /** The model that calls in degraded mode run with, by agent. */
  readonly degradeTo: Readonly<Record<string, string>>
  /** The endpoint of calls that name none, by agent. */
  readonly endpoints: Readonly<Record<string, string>>
  /** The rules that were added at run time; a new declaration keeps them. */
  readonly added: readonly RuleSpec[]
  readonly overrides: readonly Override[]
  readonly pauses: readonly Pause[]
  readonly settings: Settings
  /** Declared with the rules. */
  readonly alerts: AlertPlan
  /** The Lua of the algorithms that limits may name as `custom:<name>`. */
  readonly algorithms: Readonly<Record<string, string>>
}

/** The policy of a namespace where nothing was set. The order of its parts is that in which the version hashes them. */
export const EMPTY_POLICY: Policy = {
  declared: [],
  prices: {},
  exempt: {},
  degradeTo: {},
  endpoints: {},
  added: [],
  overrides: [],
  pauses: [],
  settings: {},
  alerts: NO_ALERTS,
  algorithms: {},
}

export const POLICY_PARTS = Object.keys(EMPTY_POLICY) as readonly (keyof Policy)[]

/** The field of the policy's Redis hash that stores a part, as JSON. */
export function policyField(part: keyof Policy): string {
  return part === 'declared' ? 'rules' : part
}

/** Whether a rule of a policy has a name. */
export function hasRule(policy: Policy, name: string): boolean {
  return rulesOf(policy).some((one) => one.name === name)
}

/** All rules of a policy: the declared ones, then the ones that were added at run time. */
export function rulesOf({ declared, added }: Policy): readonly RuleSpec[] {
  return [...declared, ...added]
}

export function retentionOf({ settings }: Policy): number {
  return settings.auditRetentionMs ?? DEFAULTS.auditRetentionMs
}

/** The version of a policy: a hash, equal for equal policies on every machine. */
export function versionOf(policy: Policy): string {
  // Without alerts and algorithms the version is that which a process works out that knows none.
  const isEmpty: Partial<Record<keyof Policy, boolean>> = {
    alerts: policy.alerts.list.length === 0 && Object.keys(policy.alerts.webhooks).length === 0,
    algorithms: Object.keys(policy.algorithms).length === 0,
  }
  const hashed = POLICY_PARTS.filter((part) => isEmpty[part] !== true)
  return createHash('sha256')
    .update(JSON.stringify(hashed.map((part) => policy[part])))
    .digest('hex')
    .slice(0, 16)
}

import { createHash } from 'node:crypto'
import { DEFAULTS } from '../model/defaults.js'
import type { PriceTable } from '../pricing/prices.js'
import type { Exempt, Override } from './override.js'
import type { Pause } from './pause.js'
import type { RuleSpec } from './rule.js'

/** What holds for a namespace besides its policy's parts. */
export interface Settings {
  /** How long the audit is kept, in ms; default 90 days. */
  readonly auditRetentionMs?: number | undefined
}

/** All that was set for a namespace: its rules, and what stands beside them. It has one version, and changes as one. */
export interface Policy {
  /** By a file or by an application: the latest wins, with prices and permanent lists. */
  readonly declared: readonly RuleSpec[]
  readonly prices: Readonly<PriceTable>
  readonly exempt: Exempt
  /** The model that calls of an agent run with in degraded mode, by agent. */
  readonly degradeTo: Readonly<Record<string, string>>
  /** At run time, whoever declares anew. */
  readonly added: readonly RuleSpec[]
  readonly overrides: readonly Override[]
  readonly pauses: readonly Pause[]
  readonly settings: Settings
}

export const EMPTY_POLICY: Policy = { declared: [], prices: {}, exempt: {}, degradeTo: {}, added: [], overrides: [], pauses: [], settings: {} }

/** Where each part is kept: a field of the policy's hash, as JSON. A part more needs a line here, and in EMPTY_POLICY. */
export const POLICY_FIELDS: Readonly<Record<keyof Policy, string>> = {
  declared: 'rules',
  prices: 'prices',
  exempt: 'exempt',
  degradeTo: 'degradeTo',
  added: 'added',
  overrides: 'overrides',
  pauses: 'pauses',
  settings: 'settings',
}
export const POLICY_PARTS = Object.keys(POLICY_FIELDS) as readonly (keyof Policy)[]

/** How long the audit of a policy is kept, in ms. */
export function retentionOf({ settings }: Policy): number {
  return settings.auditRetentionMs ?? DEFAULTS.auditRetentionMs
}

/** Equal for equal policies, on every machine. */
export function versionOf(policy: Policy): string {
  return createHash('sha256')
    .update(JSON.stringify(POLICY_PARTS.map((part) => policy[part])))
    .digest('hex')
    .slice(0, 16)
}

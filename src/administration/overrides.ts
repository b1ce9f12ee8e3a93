import { randomUUID } from 'node:crypto'
import type { Call } from '../model/call.js'
import { DEFAULTS, UNKNOWN_ACTOR } from '../model/defaults.js'
import type { Allowance, Override } from '../policy/override.js'
import { validateCall } from '../validation/call.js'
import { actorOf } from '../validation/requests.js'
import { type AuditEntry, type AuditQuery, checkQuery } from './audit.js'
import type { PolicyChange } from './change.js'
import { type CheckedGrant, checkGrant, endOfGrant, type GrantSpec } from './grant.js'
import type { PolicyClient } from './policy-client.js'

/** An override that applies to a call. */
export interface Applied {
  /** The rule whose meter it changes. */
  readonly rule: string
  readonly allow: Allowance
  /** Null where the call's user, team, org, agent or address is on a permanent list instead. */
  readonly override: Override | null
}

function addOverride(id: string, grant: CheckedGrant, longestMs: number): PolicyChange {
  return (policy, nowMs) => {
    // An earlier try wrote it, but its reply was lost.
    if (policy.overrides.some((one) => one.id === id)) return { policy, noted: [] }
    const { forMs: _forMs, untilMs: _untilMs, ...given } = grant
    const until = new Date(endOfGrant(grant, nowMs, longestMs)).toISOString()
    const override: Override = { id, ...given, grantedAt: new Date(nowMs).toISOString(), until }
    const overrides = [...policy.overrides, override]
    return { policy: { ...policy, overrides }, noted: [{ by: grant.by, what: 'override.granted', subject: id, before: null, after: override }] }
  }
}

/** Temporary exceptions from rules (`tollgate.overrides`). A change is in force in every process within a second. */
export class Overrides {
  constructor(
    private readonly policyClient: PolicyClient,
    private readonly longestMs: number = DEFAULTS.longestOverrideMs,
  ) {}

  /**
   * Grants an override, and wakes the waiting calls that have room under it. Returns its id.
   * @throws RequestInvalid naming field, value and bound; nothing is changed then
   */
  async grant(spec: GrantSpec): Promise<string> {
    const { actor } = this.policyClient
    const grant = checkGrant(spec, actor === UNKNOWN_ACTOR ? undefined : actor)
    const id = randomUUID()
    await this.policyClient.change(addOverride(id, grant, this.longestMs))
    return id
  }

  /** Ends an override now. Returns whether it was still in force. @throws RequestInvalid */
  async revoke(id: string, { by }: { by?: string | undefined } = {}): Promise<boolean> {
    const actor = actorOf(by, this.policyClient.actor)
    return this.policyClient.remove((policy) => {
      const before = policy.overrides.find((one) => one.id === id) ?? null
      const overrides = policy.overrides.filter((one) => one !== before)
      return { policy: { ...policy, overrides }, noted: [{ by: actor, what: 'override.revoked', subject: String(id), before, after: null }] }
    })
  }

  /** The overrides in force, in the order in which they were granted. */
  list(): readonly Override[] {
    return this.policyClient.ruleSet.overrides
  }

  /** The override that decides about a call now, for each rule that has one. @throws CallInvalid */
  find(input: Call): readonly Applied[] {
    const call = validateCall(input)
    const { specs, rules, overrideIndex } = this.policyClient.ruleSet
    return specs.flatMap((spec) => {
      const { name } = spec
      const covers = rules.find((rule) => rule.name === name)?.scopeValue(call) ?? null
      const deciding = covers === null ? null : overrideIndex.decide(spec, call)
      return deciding === null ? [] : [{ rule: name, ...deciding }]
    })
  }

  /** Entries of the audit of all changes (not only of overrides), the newest first. @throws RequestInvalid naming field, value and bound */
  async audit(query: AuditQuery = {}): Promise<AuditEntry[]> {
    return this.policyClient.audit(checkQuery(query))
  }
}

import { randomUUID } from 'node:crypto'
import type { Call } from '../model/call.js'
import { DEFAULTS, UNKNOWN_ACTOR } from '../model/defaults.js'
import type { RuleSet } from '../policy/compile.js'
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
  /** Null where the call's user, team, org, agent or address is on a permanent list. */
  readonly override: Override | null
}

function granted(id: string, grant: CheckedGrant, longestMs: number): PolicyChange {
  return (policy, nowMs) => {
    // Written before, and the reply was lost.
    if (policy.overrides.some((one) => one.id === id)) return { policy, noted: [] }
    const { forMs: _forMs, untilMs: _untilMs, ...given } = grant
    const override: Override = {
      id,
      ...given,
      grantedAt: new Date(nowMs).toISOString(),
      until: new Date(endOfGrant(grant, nowMs, longestMs)).toISOString(),
    }
    const overrides = [...policy.overrides, override]
    return { policy: { ...policy, overrides }, noted: [{ by: grant.by, what: 'override.granted', subject: id, before: null, after: override }] }
  }
}

/** Exceptions from rules, for some time: effective on every worker within a second. */
export class Overrides {
  private readonly policyClient: PolicyClient
  private readonly longestMs: number

  constructor(policyClient: PolicyClient, longestMs: number = DEFAULTS.longestOverrideMs) {
    this.policyClient = policyClient
    this.longestMs = longestMs
  }

  /**
   * Grants an override, and wakes the calls in line that it gives room. Returns its id.
   * @throws RequestInvalid naming field, value and bound; nothing changes then
   */
  async grant(spec: GrantSpec): Promise<string> {
    const { actor } = this.policyClient
    const grant = checkGrant(spec, actor === UNKNOWN_ACTOR ? undefined : actor)
    const id = randomUUID()
    await this.policyClient.change(granted(id, grant, this.longestMs))
    return id
  }

  /** Ends an override now. Returns whether it still held. @throws RequestInvalid */
  async revoke(id: string, { by }: { by?: string | undefined } = {}): Promise<boolean> {
    const actor = actorOf(by, this.policyClient.actor)
    // It may be written by a try whose reply was lost, and not be found by the next.
    let held = false
    await this.policyClient.change((policy) => {
      const before = policy.overrides.find((one) => one.id === id)
      held ||= before !== undefined
      const overrides = policy.overrides.filter((one) => one.id !== id)
      return { policy: { ...policy, overrides }, noted: [{ by: actor, what: 'override.revoked', subject: String(id), before: before ?? null, after: null }] }
    })
    return held
  }

  /** Those that hold now, as they were granted. */
  list(): readonly Override[] {
    return this.ruleSet.overrides
  }

  /** What applies to a call now, per rule: of several overrides the one that decides. @throws CallInvalid */
  find(input: Call): readonly Applied[] {
    const call = validateCall(input)
    const { specs, rules, overrideIndex } = this.ruleSet
    return specs.flatMap(({ name, scope }) => {
      const covers = rules.find((rule) => rule.name === name)?.scopeValue(call) ?? null
      const deciding = covers === null ? null : overrideIndex.decide(name, [scope].flat(), call)
      return deciding === null ? [] : [{ rule: name, ...deciding }]
    })
  }

  /** What was changed, by whom and when, the newest first: not overrides only. @throws RequestInvalid naming field, value and bound */
  async audit(query: AuditQuery = {}): Promise<AuditEntry[]> {
    return this.policyClient.audit(checkQuery(query))
  }

  private get ruleSet(): RuleSet {
    return this.policyClient.ruleSet
  }
}

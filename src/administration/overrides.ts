import { randomUUID } from 'node:crypto'
import type { Call } from '../model/call.js'
import { DEFAULTS, UNKNOWN_ACTOR } from '../model/defaults.js'
import { compileScopeValue } from '../policy/match.js'
import { type Allowance, type Override, subjectOf } from '../policy/override.js'
import { hasRule, type Policy, rulesOf } from '../policy/policy.js'
import { validateCall } from '../validation/call.js'
import { compileGlob } from '../validation/patterns.js'
import { actorOf } from '../validation/requests.js'
import { type AuditEntry, type AuditQuery, checkQuery } from './audit.js'
import { checkRoom, type PolicyChange, unknownRule } from './change.js'
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

/** An override in force. */
export interface OverrideInForce extends Override {
  /** How many calls have started under it; those of other processes are known within two seconds. */
  readonly uses: number
}

/** @throws RULE_UNKNOWN where an override names a rule, or a glob of rules, that no rule has */
function checkRulesOf({ for: { rule }, rules = [] }: CheckedGrant, policy: Policy): void {
  if (rule !== undefined && !hasRule(policy, rule)) throw unknownRule(rule)
  const names = rulesOf(policy).map(({ name }) => name)
  const unknown = rules.find((glob) => !names.some(compileGlob(glob)))
  if (unknown !== undefined) throw unknownRule(unknown)
}

function addOverride(id: string, grant: CheckedGrant, longestMs: number): PolicyChange {
  return (policy, nowMs) => {
    // An earlier try wrote it, but its reply was lost.
    if (policy.overrides.some((one) => one.id === id)) return { policy, noted: [] }
    checkRulesOf(grant, policy)
    checkRoom('overrides', policy.overrides)
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
    /** Starts waiting calls for which every rule is lifted. */
    private readonly startLifted: () => Promise<void> | undefined = () => undefined,
  ) {}

  /**
   * Grants an override, and wakes the waiting calls that have room under it. Returns its id.
   * @throws RequestInvalid naming field, value and bound; RULE_UNKNOWN; nothing is changed then
   */
  async grant(spec: GrantSpec): Promise<string> {
    const { actor } = this.policyClient
    const grant = checkGrant(spec, actor === UNKNOWN_ACTOR ? undefined : actor)
    const id = randomUUID()
    await this.policyClient.change(addOverride(id, grant, this.longestMs))
    if (grant.everything === true)
      await this.startLifted()?.catch((error: unknown) =>
        this.policyClient.warn({ err: error }, 'waiting calls could not be started under an override; they start in their turn'),
      )
    const { specs, overrideIndex, overrides } = this.policyClient.ruleSet
    const [kind] = subjectOf(grant)
    const applies = specs.some((spec) => overrideIndex.mayLift(spec.name) || overrideIndex.candidates(spec)?.some((one) => one.id === id) === true)
    if (!applies && overrides.some((one) => one.id === id))
      this.policyClient.warn({ override: id }, `an override was granted that changes nothing: no rule that it applies to counts by ${kind}`)
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
  list(): readonly OverrideInForce[] {
    return this.policyClient.ruleSet.overrides.map((override) => ({ ...override, uses: this.policyClient.usesOf(override.id) }))
  }

  /** The override that decides about a call now, for each rule that has one. @throws CallInvalid */
  find(input: Call): readonly Applied[] {
    const call = validateCall(input)
    const { specs, overrideIndex } = this.policyClient.ruleSet
    return specs.flatMap((spec) => {
      const { name, enabled } = spec
      if (enabled === false || compileScopeValue(spec)(call) === null) return []
      const override = overrideIndex.lifting(name, call)
      const deciding = override === undefined ? overrideIndex.decide(spec, call) : { allow: override.allow, override }
      return deciding === null ? [] : [{ rule: name, ...deciding }]
    })
  }

  /** Entries of the audit of all changes (not only of overrides), the newest first. @throws RequestInvalid naming field, value and bound */
  async audit(query: AuditQuery = {}): Promise<AuditEntry[]> {
    return this.policyClient.audit(checkQuery(query))
  }
}

import { isDeepStrictEqual } from 'node:util'
import { RulesInvalid, TollgateError } from '../model/errors.js'
import type { Exempt } from '../policy/override.js'
import type { Policy, Settings } from '../policy/policy.js'
import type { RuleSpec } from '../policy/rule.js'
import { checkRules } from '../policy/rules-file.js'
import type { PriceTable } from '../pricing/prices.js'
import type { AuditNote, Change } from './audit.js'

/** What becomes of a policy, and what the audit says of it. */
export interface ChangedPolicy {
  readonly policy: Policy
  readonly noted: readonly AuditNote[]
}

/**
 * A change, worked out from the policy that stands; again where another was faster. One that
 * changes nothing is not written. @param nowMs by Redis' clock
 */
export type PolicyChange = (policy: Policy, nowMs: number) => ChangedPolicy

/** What an application or a file declares. */
export interface Declaration {
  readonly rules: readonly RuleSpec[]
  readonly prices: Readonly<PriceTable>
  readonly exempt: Exempt
  /** By agent, the model that its calls run with in degraded mode. */
  readonly degradeTo: Readonly<Record<string, string>>
}

/** Of two lists those that the other has not, exactly so. */
function apart(rules: readonly RuleSpec[], others: readonly RuleSpec[]): RuleSpec[] {
  const known = new Map(others.map((rule) => [rule.name, rule]))
  return rules.filter((rule) => !isDeepStrictEqual(known.get(rule.name), rule))
}

/** Makes this the declared part: the latest wins, what was set at run time is kept. */
export function declareRules({ rules, prices, exempt, degradeTo }: Declaration, by: string): PolicyChange {
  return (policy) => {
    // Names must differ from those that were added at run time, too.
    checkRules([...rules, ...policy.added])
    const before: Record<string, unknown> = { rules: apart(policy.declared, rules) }
    const after: Record<string, unknown> = { rules: apart(rules, policy.declared) }
    for (const [part, was, is] of [
      ['prices', policy.prices, prices],
      ['exempt', policy.exempt, exempt],
      ['degradeTo', policy.degradeTo, degradeTo],
    ] as const) {
      if (isDeepStrictEqual(was, is)) continue
      before[part] = was
      after[part] = is
    }
    return { policy: { ...policy, declared: rules, prices, exempt, degradeTo }, noted: [{ by, what: 'rules.declared', subject: 'rules', before, after }] }
  }
}

/** Adds a rule beside the declared ones, or replaces the added one of its name; null removes it. */
export function putRule(name: string, spec: RuleSpec | null, what: Change, by: string): PolicyChange {
  return (policy) => {
    const before = policy.added.find((one) => one.name === name) ?? null
    const others = policy.added.filter((one) => one.name !== name)
    const added = spec === null ? others : before === null ? [...others, spec] : policy.added.map((one) => (one.name === name ? spec : one))
    checkRules([...policy.declared, ...added])
    return { policy: { ...policy, added }, noted: [{ by, what, subject: name, before, after: spec }] }
  }
}

/** Adds a rule beside the others. Adding what is there already, exactly so, changes nothing. @throws RulesInvalid where its name is taken */
export function addRule(spec: RuleSpec, by: string): PolicyChange {
  return (policy) => {
    const known = policy.added.find(({ name }) => name === spec.name)
    if (known !== undefined && !isDeepStrictEqual(known, spec))
      throw new RulesInvalid([`name is taken by another rule; names must differ (got ${JSON.stringify(spec.name)})`])
    return putRule(spec.name, spec, 'rule.added', by)(policy, 0)
  }
}

function unknownRule(name: string): TollgateError {
  return new TollgateError('RULE_UNKNOWN', `no rule is called ${JSON.stringify(name)}`)
}

/** Changes a rule where it stands: a declared one until it is declared anew. @throws RULE_UNKNOWN, RulesInvalid */
export function updateRule(name: string, patch: Partial<RuleSpec>, by: string): PolicyChange {
  return (policy) => {
    const before = [...policy.declared, ...policy.added].find((one) => one.name === name)
    if (before === undefined) throw unknownRule(name)
    if (patch.name !== undefined && patch.name !== name)
      throw new RulesInvalid([`name must stay ${name}: usage is kept under it; remove the rule and add another (got ${JSON.stringify(patch.name)})`])
    const [after] = checkRules([{ ...before, ...patch }]).rules
    const replaced = (rules: readonly RuleSpec[]) => rules.map((one) => (one.name === name ? (after as RuleSpec) : one))
    return {
      policy: { ...policy, declared: replaced(policy.declared), added: replaced(policy.added) },
      noted: [{ by, what: 'rule.updated', subject: name, before, after }],
    }
  }
}

/** Takes a rule away, a declared one until it is declared anew. */
export function removeRule(name: string, by: string): PolicyChange {
  return (policy) => {
    const others = (rules: readonly RuleSpec[]) => rules.filter((one) => one.name !== name)
    const before = [...policy.declared, ...policy.added].find((one) => one.name === name) ?? null
    return {
      policy: { ...policy, declared: others(policy.declared), added: others(policy.added) },
      noted: [{ by, what: 'rule.removed', subject: name, before, after: null }],
    }
  }
}

/** Sets what holds for the namespace besides. */
export function setSettings(settings: Settings, by: string): PolicyChange {
  return (policy) => ({
    policy: { ...policy, settings: { ...policy.settings, ...settings } },
    noted: [{ by, what: 'settings.changed', subject: 'settings', before: policy.settings, after: { ...policy.settings, ...settings } }],
  })
}

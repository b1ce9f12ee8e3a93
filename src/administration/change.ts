import { isDeepStrictEqual } from 'node:util'
import { DEFAULTS } from '../model/defaults.js'
import { RequestInvalid, RulesInvalid, TollgateError } from '../model/errors.js'
import { NO_ALERTS } from '../policy/alert.js'
import { algorithmVersion } from '../policy/own-algorithms.js'
import { type Policy, rulesOf, type Settings } from '../policy/policy.js'
import type { RuleSpec } from '../policy/rule.js'
import { checkRules } from '../policy/rules-file.js'
import { faultMessage } from '../validation/faults.js'
import type { AuditNote, Change } from './audit.js'

/** A changed policy, and the notes about it for the audit. */
export interface ChangedPolicy {
  readonly policy: Policy
  readonly noted: readonly AuditNote[]
}

/**
 * A change as a pure function of the current policy: it is run again where another process wrote
 * first, and nothing is written where it returns an equal policy. @param nowMs by Redis' clock
 */
export type PolicyChange = (policy: Policy, nowMs: number) => ChangedPolicy

/** The declared part of a policy: by a rules file or an application. */
export type Declaration = Pick<Policy, 'prices' | 'exempt' | 'degradeTo' | 'endpoints'> & {
  readonly rules: readonly RuleSpec[]
  readonly alerts?: Policy['alerts']
}

/** The rules that the other list does not contain in equal form. */
function differing(rules: readonly RuleSpec[], others: readonly RuleSpec[]): RuleSpec[] {
  const known = new Map(others.map((rule) => [rule.name, rule]))
  return rules.filter((rule) => !isDeepStrictEqual(known.get(rule.name), rule))
}

/** Replaces the declared part of the policy; rules, overrides and pauses of the run time stay. */
export function declareRules({ rules, prices, exempt, degradeTo, endpoints, alerts = NO_ALERTS }: Declaration, by: string): PolicyChange {
  return (policy) => {
    // Together: names must also differ from those of rules that were added at run time.
    checkRules([...rules, ...policy.added])
    const before: Record<string, unknown> = { rules: differing(policy.declared, rules) }
    const after: Record<string, unknown> = { rules: differing(rules, policy.declared) }
    const declared = { prices, exempt, degradeTo, endpoints, alerts }
    for (const part of Object.keys(declared) as (keyof typeof declared)[]) {
      if (isDeepStrictEqual(policy[part], declared[part])) continue
      before[part] = policy[part]
      after[part] = declared[part]
    }
    return { policy: { ...policy, ...declared, declared: rules }, noted: [{ by, what: 'rules.declared', subject: 'rules', before, after }] }
  }
}

/** Adds algorithms that limits may name, or replaces those of their names; the others stay. */
export function declareAlgorithms(given: Policy['algorithms'], by: string): PolicyChange {
  return (policy) => {
    const algorithms = { ...policy.algorithms, ...given }
    const count = Object.keys(algorithms).length
    if (count > DEFAULTS.algorithmsAtMost)
      throw new RulesInvalid([`algorithms must be at most ${DEFAULTS.algorithmsAtMost} in a namespace, those of other processes included (got ${count})`])
    const versions = (of: Policy['algorithms']) =>
      Object.fromEntries(Object.keys(given).map((name) => [name, of[name] === undefined ? null : algorithmVersion(of[name])]))
    const noted = {
      by,
      what: 'algorithms.declared',
      subject: Object.keys(given).join(' '),
      before: versions(policy.algorithms),
      after: versions(algorithms),
    } as const
    return { policy: { ...policy, algorithms }, noted: [noted] }
  }
}

/** Adds a rule beside the declared ones, or replaces the added rule of that name; null removes it. @throws RulesInvalid */
export function putRule(name: string, spec: RuleSpec | null, what: Change, by: string): PolicyChange {
  return (policy) => {
    const before = policy.added.find((one) => one.name === name) ?? null
    const others = policy.added.filter((one) => one.name !== name)
    const added = spec === null ? others : before === null ? [...others, spec] : policy.added.map((one) => (one.name === name ? spec : one))
    checkRules([...policy.declared, ...added])
    return { policy: { ...policy, added }, noted: [{ by, what, subject: name, before, after: spec }] }
  }
}

/** Adds a rule beside the others; does nothing where an equal one was added before. @throws RulesInvalid where another rule has its name */
export function addRule(spec: RuleSpec, by: string): PolicyChange {
  return (policy) => {
    const known = policy.added.find(({ name }) => name === spec.name)
    if (known !== undefined && !isDeepStrictEqual(known, spec))
      throw new RulesInvalid([`name is taken by another rule; names must differ (got ${JSON.stringify(spec.name)})`])
    return putRule(spec.name, spec, 'rule.added', by)(policy, 0)
  }
}

/** @throws RequestInvalid where a namespace has as many overrides or pauses as it may have */
export function checkRoom(what: 'overrides' | 'pauses', known: readonly unknown[]): void {
  if (known.length < DEFAULTS.exceptionsAtMost) return
  throw new RequestInvalid(faultMessage(what, `must be at most ${DEFAULTS.exceptionsAtMost} in force at once; end some first`, String(known.length + 1)))
}

export function unknownRule(name: string): TollgateError {
  return new TollgateError('RULE_UNKNOWN', `no rule is called ${JSON.stringify(name)}`)
}

/** Changes fields of a declared or added rule; a declared one until the next declaration. @throws RULE_UNKNOWN, RulesInvalid */
export function updateRule(name: string, patch: Partial<RuleSpec>, by: string): PolicyChange {
  return (policy) => {
    const before = rulesOf(policy).find((one) => one.name === name)
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

/** Removes a declared or added rule; a declared one until the next declaration. */
export function removeRule(name: string, by: string): PolicyChange {
  return (policy) => {
    const others = (rules: readonly RuleSpec[]) => rules.filter((one) => one.name !== name)
    const before = rulesOf(policy).find((one) => one.name === name) ?? null
    return {
      policy: { ...policy, declared: others(policy.declared), added: others(policy.added) },
      noted: [{ by, what: 'rule.removed', subject: name, before, after: null }],
    }
  }
}

export function setSettings(settings: Settings, by: string): PolicyChange {
  return (policy) => {
    const after = { ...policy.settings, ...settings }
    return { policy: { ...policy, settings: after }, noted: [{ by, what: 'settings.changed', subject: 'settings', before: policy.settings, after }] }
  }
}

import { isDeepStrictEqual } from 'node:util'
import { RulesInvalid } from '../model/errors.js'
import type { Exempt } from '../policy/override.js'
import type { RuleSpec } from '../policy/rule.js'
import { checkRules, readRules } from '../policy/rules-file.js'
import type { PriceTable } from '../pricing/prices.js'
import { actorOf } from '../validation/requests.js'
import { addRule, declareRules, removeRule, updateRule } from './change.js'
import type { PolicyClient } from './policy-client.js'

/** The actor of a change; default the Tollgate's `actor`. */
export interface By {
  by?: string | undefined
}

/** What is declared beside rules that are given as objects; default none. A rules file contains its own. */
interface DeclaredBeside {
  exempt?: Exempt | undefined
  degradeTo?: Readonly<Record<string, string>> | undefined
  endpoints?: Readonly<Record<string, string>> | undefined
}

/** The rules of a namespace (`tollgate.rules`). A change is in force in every process within a second, is noted in the audit, and keeps the usage. */
export class Rules {
  constructor(private readonly policyClient: PolicyClient) {}

  /** All rules as written: the declared ones, then the ones that were added. */
  list(): readonly RuleSpec[] {
    return this.policyClient.ruleSet.specs
  }

  /** A rule by its name; null where there is none. */
  get(name: string): RuleSpec | null {
    return this.list().find((rule) => rule.name === name) ?? null
  }

  /** Adds a rule beside the declared ones; later declarations keep it. @throws RulesInvalid; nothing is changed then */
  async add(spec: RuleSpec, { by }: By = {}): Promise<void> {
    const actor = actorOf(by, this.policyClient.actor)
    await this.policyClient.change(addRule(checkRule(spec), actor))
  }

  /**
   * Changes the given fields of a rule; `undefined` removes a field. A declared rule stays changed
   * until the next declaration. @throws RULE_UNKNOWN, RulesInvalid; nothing is changed then
   */
  async update(name: string, patch: Partial<RuleSpec>, { by }: By = {}): Promise<void> {
    const actor = actorOf(by, this.policyClient.actor)
    await this.policyClient.change(updateRule(name, patch, actor))
  }

  /** Removes a rule; a declared one comes back with the next declaration. Returns whether it existed. */
  async remove(name: string, { by }: By = {}): Promise<boolean> {
    return this.policyClient.remove(removeRule(name, actorOf(by, this.policyClient.actor)))
  }

  /**
   * Declares the rules of the namespace, by the path of a rules file or as objects: they replace
   * the declared ones, with prices, permanent lists, models of degraded mode and default endpoints.
   * @throws RulesInvalid; nothing is changed then
   */
  async apply(rules: string | readonly RuleSpec[], prices?: PriceTable, { by, exempt, degradeTo, endpoints }: By & DeclaredBeside = {}): Promise<void> {
    const actor = actorOf(by, this.policyClient.actor)
    const checked = typeof rules === 'string' ? await readRules(rules) : checkRules(rules, prices, exempt, degradeTo, endpoints)
    await this.policyClient.change(declareRules(checked, actor))
  }

  /** What `apply` of a rules file would change; rules that were added at run time stay, and are not in it. @throws RulesInvalid */
  async diff(file: string): Promise<RulesDiff> {
    const { rules, prices, exempt, degradeTo, endpoints, alerts } = await readRules(file)
    const { policy } = this.policyClient.ruleSet
    const [before, after] = [new Map(policy.declared.map((rule) => [rule.name, rule])), new Map(rules.map((rule) => [rule.name, rule]))]
    const beside = Object.entries({ prices, exempt, degradeTo, endpoints, alerts }) as ['prices' | 'exempt' | 'degradeTo' | 'endpoints' | 'alerts', unknown][]
    return {
      added: rules.filter(({ name }) => !before.has(name)),
      removed: policy.declared.filter(({ name }) => !after.has(name)),
      changed: rules.flatMap((rule) => {
        const known = before.get(rule.name)
        return known === undefined || isDeepStrictEqual(known, rule) ? [] : [{ name: rule.name, before: known, after: rule }]
      }),
      beside: Object.fromEntries(
        beside.flatMap(([part, value]) => (isDeepStrictEqual(policy[part], value) ? [] : [[part, { before: policy[part], after: value }]])),
      ),
    }
  }
}

/** What a declaration would change. */
export interface RulesDiff {
  readonly added: readonly RuleSpec[]
  readonly removed: readonly RuleSpec[]
  readonly changed: readonly { readonly name: string; readonly before: RuleSpec; readonly after: RuleSpec }[]
  /** What differs beside the rules: prices, exempt, degradeTo, endpoints, alerts. */
  readonly beside: Readonly<Record<string, { readonly before: unknown; readonly after: unknown }>>
}

/** Checks one rule; messages name its fields without the place in a list. @throws RulesInvalid */
function checkRule(spec: RuleSpec): RuleSpec {
  try {
    return checkRules([spec]).rules[0] as RuleSpec
  } catch (error) {
    if (!(error instanceof RulesInvalid)) throw error
    throw new RulesInvalid(error.faults.map((fault) => fault.replace(/^rules\.0\.?/, '') || fault))
  }
}

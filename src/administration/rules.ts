import { RulesInvalid } from '../model/errors.js'
import type { Exempt } from '../policy/override.js'
import type { RuleSpec } from '../policy/rule.js'
import { checkRules, readRules } from '../policy/rules-file.js'
import type { PriceTable } from '../pricing/prices.js'
import { actorOf } from '../validation/requests.js'
import { addRule, declareRules, removeRule, updateRule } from './change.js'
import type { PolicyClient } from './policy-client.js'

/** Who changes something; default the Tollgate's `actor`. */
interface By {
  by?: string | undefined
}

/** What is declared with rules that are given as objects, besides prices; default none. */
interface Beside {
  exempt?: Exempt | undefined
  degradeTo?: Readonly<Record<string, string>> | undefined
}

/** The rules of a namespace. What changes them counts everywhere within a second, and is in the audit; usage is kept. */
export class Rules {
  private readonly policyClient: PolicyClient

  constructor(policyClient: PolicyClient) {
    this.policyClient = policyClient
  }

  /** Those of the namespace, as written: the declared ones, then those that were added. */
  list(): readonly RuleSpec[] {
    return this.policyClient.ruleSet.specs
  }

  /** A rule by its name; null where there is none. */
  get(name: string): RuleSpec | null {
    return this.list().find((rule) => rule.name === name) ?? null
  }

  /** Adds a rule beside the declared ones, whoever declares them anew. @throws RulesInvalid, and nothing changes */
  async add(spec: RuleSpec, { by }: By = {}): Promise<void> {
    const actor = actorOf(by, this.policyClient.actor)
    await this.policyClient.change(addRule(checkRule(spec), actor))
  }

  /**
   * Changes the fields of a rule that are given; `undefined` leaves a field out. A declared rule
   * stays changed until it is declared anew. @throws RULE_UNKNOWN, RulesInvalid, and nothing changes
   */
  async update(name: string, patch: Partial<RuleSpec>, { by }: By = {}): Promise<void> {
    const actor = actorOf(by, this.policyClient.actor)
    await this.policyClient.change(updateRule(name, patch, actor))
  }

  /** Takes a rule away; a declared one comes back when it is declared anew. Returns whether it was there. */
  async remove(name: string, { by }: By = {}): Promise<boolean> {
    const change = removeRule(name, actorOf(by, this.policyClient.actor))
    // A try whose reply was lost may have removed it.
    let was = false
    await this.policyClient.change((policy, nowMs) => {
      was ||= [...policy.declared, ...policy.added].some((rule) => rule.name === name)
      return change(policy, nowMs)
    })
    return was
  }

  /**
   * Makes a file or a set the namespace's declared rules, with its prices and permanent lists.
   * @throws RulesInvalid, and nothing changes
   */
  async apply(rules: string | readonly RuleSpec[], prices?: PriceTable, { by, exempt, degradeTo }: By & Beside = {}): Promise<void> {
    const actor = actorOf(by, this.policyClient.actor)
    const checked = typeof rules === 'string' ? await readRules(rules) : checkRules(rules, prices, exempt, degradeTo)
    await this.policyClient.change(declareRules(checked, actor))
  }
}

/** One rule: its faults are named without a place in a list. @throws RulesInvalid */
function checkRule(spec: RuleSpec): RuleSpec {
  try {
    const [rule] = checkRules([spec]).rules
    return rule as RuleSpec
  } catch (error) {
    if (!(error instanceof RulesInvalid)) throw error
    throw new RulesInvalid(error.faults.map((fault) => fault.replace(/^rules\.0\.?/, '') || fault))
  }
}

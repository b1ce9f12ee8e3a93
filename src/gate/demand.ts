import type { Call, Strategy } from '../call.js'
import type { Keys } from '../redis/keys.js'
import { type CompiledLimit, type CompiledRule, encodeRule, type RuleSet, STRICTNESS, scopeValueOf } from '../rules/compile.js'

/** One rule's meters as one call meets them. */
export interface DemandPart {
  readonly rule: CompiledRule
  readonly value: string
  /** State, line and (where the rule counts concurrency) leases. */
  readonly keys: readonly string[]
}

/** What one call asks of all its meters at once. */
export interface Demand {
  readonly parts: readonly DemandPart[]
  readonly requests: number
  readonly tokens: number
}

const BLOCK_LIMITS: readonly CompiledLimit[] = [{ name: 'retry-after', unit: 'none', algorithm: 'block', limit: 0, windowMs: null, capacity: 0, a: 0, b: 0 }]
const BLOCK_PRIORITY = -2_000_000

/**
 * The meter that every call passes besides those of rules: whether its agent asked to
 * be left alone. Per agent, endpoint and model, since one model's 429 says nothing
 * about another's.
 */
const blockValue = scopeValueOf(['agent', 'endpoint', 'model'])
export const BLOCK: CompiledRule = {
  name: '~block',
  priority: BLOCK_PRIORITY,
  strategy: 'queue',
  limits: BLOCK_LIMITS,
  hasLeases: false,
  encoded: encodeRule(BLOCK_PRIORITY, 'queue', BLOCK_LIMITS),
  scopeValue: ({ agent, endpoint = '', model = '' }) => blockValue({ agent, endpoint, model }),
}

/** How many scope values' keys are remembered, so that busy ones are not built anew for each call. */
const REMEMBERED = 10_000

/** Resolves calls to demands under one version of the rules. */
export class DemandResolver {
  readonly ruleSet: RuleSet
  private readonly keys: Keys
  private readonly remembered = new Map<CompiledRule, Map<string, DemandPart>>()

  constructor(ruleSet: RuleSet, keys: Keys) {
    this.ruleSet = ruleSet
    this.keys = keys
  }

  /** Whether any rule that covers the call counts tokens, so that they must be known. */
  needsTokens(call: Call): boolean {
    return this.ruleSet.rules.some((rule) => rule.limits.some((limit) => limit.unit === 'tokens') && rule.scopeValue(call) !== null)
  }

  resolve(call: Call, tokens: number): Demand {
    const parts: DemandPart[] = []
    for (const rule of this.ruleSet.rules) {
      const value = rule.scopeValue(call)
      if (value !== null) parts.push(this.part(rule, value))
    }
    parts.push(this.part(BLOCK, BLOCK.scopeValue(call) ?? ''))
    return { parts, requests: call.cost?.requests ?? 1, tokens }
  }

  private part(rule: CompiledRule, value: string): DemandPart {
    let values = this.remembered.get(rule)
    if (values === undefined) {
      values = new Map()
      this.remembered.set(rule, values)
    }
    let part = values.get(value)
    if (part === undefined) {
      const keys = [this.keys.meter(rule.name, value), this.keys.line(rule.name, value)]
      if (rule.hasLeases) keys.push(this.keys.leases(rule.name, value))
      part = { rule, value, keys }
      if (values.size >= REMEMBERED) values.clear()
      values.set(value, part)
    }
    return part
  }
}

/** The number by which a call's own strategy overrides that of the rules; 0 = it has none. */
export function strictnessOf(strategy: Strategy | undefined): number {
  return strategy === undefined ? 0 : STRICTNESS[strategy]
}

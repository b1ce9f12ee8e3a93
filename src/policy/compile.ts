import { ALGORITHMS } from '../limits/algorithms.js'
import { type CompiledLimit, compileLimit, countedUnits } from '../limits/compiled-limit.js'
import { type LimitSpec, limitName, scaleLimit } from '../limits/limit.js'
import type { Call, Strategy } from '../model/call.js'
import type { CostUnit } from '../model/cost.js'
import { DEFAULTS } from '../model/defaults.js'
import { RulesInvalid } from '../model/errors.js'
import { compilePrices, type Prices, type PriceTable } from '../pricing/prices.js'
import { type CompiledRule, NO_OPTIONS, type RuleOptions, type Variants } from './compiled-rule.js'
import { compileMatch, scopeValueOf } from './match.js'
import { type Allowance, endOf, type Override } from './override.js'
import { Overriding } from './overriding.js'
import { pauseRules } from './pause.js'
import { EMPTY_POLICY, type Policy, versionOf } from './policy.js'
import type { RuleSpec } from './rule.js'

export interface RuleSet {
  /** Equal for equal policies, on every machine. */
  readonly version: string
  /** Those that are enabled, and those that pauses stand for. */
  readonly rules: readonly CompiledRule[]
  /** The units of cost that any of them counts. */
  readonly counted: readonly CostUnit[]
  /** All of them, as written: those that were declared, and those that were added at run time. */
  readonly specs: readonly RuleSpec[]
  /** All that was set, rules and what stands beside them. */
  readonly policy: Policy
  /** The overrides that hold, and what decides between them. */
  readonly overrides: readonly Override[]
  readonly overriding: Overriding
  /** When the next of them ends, in ms by Redis' clock; null where none does. */
  readonly nextEndMs: number | null
  /** When that was worked out, by the same clock. */
  readonly asOfMs: number
  readonly prices: Prices
}

/** @param active how many of them hold, the first ones */
function limited(limits: readonly CompiledLimit[], active = limits.length): Pick<CompiledRule, 'limits' | 'keyed' | 'active'> {
  return { limits, keyed: limits.filter(({ algorithm }) => ALGORITHMS[algorithm].keyed), active }
}

/** The limits of a rule, compiled. @throws RulesInvalid where two of them cannot be told apart */
export function compileLimits(rule: string, specs: readonly LimitSpec[]): Pick<CompiledRule, 'limits' | 'keyed' | 'active'> {
  const limits = specs.map(compileLimit)
  const ids = new Map<number, string>()
  for (const { name, id } of limits) {
    const other = ids.get(id)
    if (other !== undefined && other !== name) throw new RulesInvalid([`rule ${rule}: the limits ${other} and ${name} share an id; rename one of them`])
    ids.set(id, name)
  }
  return limited(limits)
}

/** The limits of a rule. Windows let everything through as they open: who is slowed by them is also spaced evenly. */
function limitsOf(strategy: Strategy, limits: readonly LimitSpec[]): readonly LimitSpec[] {
  if (strategy !== 'throttle') return limits
  const paces = limits
    .filter(({ algorithm }) => algorithm !== undefined && algorithm !== 'token_bucket' && algorithm !== 'leaky_bucket')
    .map(({ timezone: _, ...limit }): LimitSpec => ({ ...limit, name: `${limitName(limit)} pace`, algorithm: 'leaky_bucket' }))
  return [...limits, ...paces]
}

function optionsOf({ strategy, maxWaitMs = 0, maxWaiting = 0, holdMs, maxDelayMs = 0 }: RuleSpec): RuleOptions {
  // A call may ask any rule to throttle it.
  return { maxWaitMs, maxWaiting, holdMs: holdMs ?? DEFAULTS.throttleHoldMs, maxDelayMs: strategy === 'throttle' ? maxDelayMs : 0 }
}

function compileDegraded({ name, degraded, onStoreError }: RuleSpec, priority: number, scopeValue: CompiledRule['scopeValue']): CompiledRule | null {
  if (degraded === undefined) return null
  // No rule of a user's has a name that ends so.
  const own = `${name}~degraded`
  return {
    kind: 'degraded',
    name: own,
    priority,
    strategy: 'retry_after',
    guards: false,
    degraded: null,
    onStoreError,
    ...compileLimits(own, degraded),
    options: NO_OPTIONS,
    scopeValue,
  }
}

const UPSTREAM_SCOPES: readonly string[] = ['agent', 'endpoint', 'model']
const UPSTREAM_MATCHES: readonly string[] = ['agents', 'endpoints', 'models']

/** A rule that depends on who calls, or lets more through in degraded mode, says nothing about what the agent allows. */
function guardsUpstream({ scope, match = {}, degraded }: RuleSpec): boolean {
  const matched = Object.entries(match).filter(([, list]) => list !== undefined)
  return degraded === undefined && [scope].flat().every((one) => UPSTREAM_SCOPES.includes(one)) && matched.every(([field]) => UPSTREAM_MATCHES.includes(field))
}

function compileRule(spec: RuleSpec, overriding: Overriding): CompiledRule {
  const matches = compileMatch(spec.match)
  const scopes = [spec.scope].flat()
  const countedBy = scopeValueOf(scopes)
  const priority = spec.priority ?? 0
  const strategy = spec.strategy ?? 'queue'
  const scopeValue = (call: Call) => (matches(call) ? countedBy(call) : null)
  const rule: CompiledRule = {
    kind: 'rule',
    name: spec.name,
    priority,
    strategy,
    guards: guardsUpstream(spec),
    ...compileLimits(spec.name, limitsOf(strategy, spec.limits)),
    options: optionsOf(spec),
    degraded: compileDegraded(spec, priority, scopeValue),
    onStoreError: spec.onStoreError,
    scopeValue,
  }
  const concerning = overriding.concerning(spec.name, scopes)
  return concerning === null ? rule : { ...rule, variants: variantsOf(rule, spec, concerning, (call) => overriding.deciding(spec.name, scopes, call)) }
}

/** A rule as an override changes it. Limits that do not hold stay with it: their usage is kept for when it ends. */
function changed(rule: CompiledRule, spec: RuleSpec, allow: Allowance): CompiledRule {
  const { name, strategy, limits } = rule
  if (allow === 'unlimited') return { ...rule, ...limited(limits, 0) }
  const specs = 'times' in allow ? spec.limits.map((limit) => scaleLimit(limit, allow.times)) : allow.limits
  const own = compileLimits(name, limitsOf(strategy, specs)).limits
  const others = limits.filter(({ id }) => own.every((one) => one.id !== id))
  return { ...rule, ...limited([...own, ...others], own.length) }
}

function variantsOf(
  rule: CompiledRule,
  spec: RuleSpec,
  concerning: readonly Override[],
  deciding: (call: Call) => { readonly allow: Allowance; readonly override: Override | null } | null,
): Variants {
  // All that lift the limits are one; and an override is compiled when it is met first.
  const known = new Map<string, CompiledRule>()
  return {
    of(call) {
      const found = deciding(call)
      if (found === null) return undefined
      const key = found.allow === 'unlimited' || found.override === null ? '' : found.override.id
      let variant = known.get(key)
      if (variant === undefined) {
        variant = changed(rule, spec, found.allow)
        known.set(key, variant)
      }
      return variant
    },
    limits: concerning.flatMap(({ allow }) => (typeof allow === 'object' && 'limits' in allow ? allow.limits.map(compileLimit) : [])),
  }
}

/**
 * Works out everything about a policy that does not depend on a call, once per version and end
 * of an override. @param nowMs by Redis' clock: which overrides hold
 */
export function compilePolicy(policy: Policy, nowMs: number): RuleSet {
  const specs = [...policy.declared, ...policy.added]
  const overrides = policy.overrides.filter((override) => endOf(override) > nowMs)
  const overriding = new Overriding(overrides, policy.exempt)
  const rules = specs.filter((spec) => spec.enabled !== false).map((spec) => compileRule(spec, overriding))
  const limits: readonly CompiledLimit[] = rules.flatMap((rule) => [...rule.limits, ...(rule.degraded?.limits ?? []), ...(rule.variants?.limits ?? [])])
  return {
    version: versionOf(policy),
    policy,
    specs,
    rules: [...rules, ...pauseRules(policy.pauses, rules)],
    overrides,
    overriding,
    asOfMs: nowMs,
    nextEndMs: overrides.length === 0 ? null : Math.min(...overrides.map(endOf)),
    prices: compilePrices(policy.prices),
    counted: countedUnits(limits),
  }
}

/** Rules without anything beside them. */
export function compileRules(declared: readonly RuleSpec[], prices: Readonly<PriceTable> = {}): RuleSet {
  return compilePolicy({ ...EMPTY_POLICY, declared, prices }, 0)
}

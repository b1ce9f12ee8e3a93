import type { RuleAlgorithm } from '../limits/algorithms/custom.js'
import { ALGORITHMS } from '../limits/algorithms.js'
import { type CompiledLimit, compileLimit, countedUnits, type FindOwn } from '../limits/compiled-limit.js'
import { isBucket, type LimitSpec, limitName, scaleLimit } from '../limits/limit.js'
import type { Call, Strategy } from '../model/call.js'
import type { CostUnit } from '../model/cost.js'
import { DEFAULTS } from '../model/defaults.js'
import { RulesInvalid } from '../model/errors.js'
import { compilePrices, type Prices } from '../pricing/prices.js'
import { BARE_RULE, type CompiledRule, type RuleOptions, type Variants } from './compiled-rule.js'
import { compileRequired, compileScopeValue, fieldMatches } from './match.js'
import { endOf, type Override } from './override.js'
import { type DecidingOverride, OverrideIndex } from './override-index.js'
import { NO_TWINS, OwnAlgorithms, Twins } from './own-algorithms.js'
import { pauseRules } from './pause.js'
import { EMPTY_POLICY, type Policy, rulesOf, versionOf } from './policy.js'
import type { RuleSpec } from './rule.js'

/** One version of the policy, compiled. */
export interface RuleSet {
  /** A hash of the policy: equal for equal policies, on every machine. */
  readonly version: string
  /** The enabled rules, then the rules that hold paused calls. */
  readonly rules: readonly CompiledRule[]
  /** The units of cost that any of these rules counts. */
  readonly counted: readonly CostUnit[]
  /** All rules as written: the declared ones, then the ones that were added at run time. */
  readonly specs: readonly RuleSpec[]
  readonly policy: Policy
  /** The overrides that have not ended. */
  readonly overrides: readonly Override[]
  readonly overrideIndex: OverrideIndex
  /** When the next override ends, in ms since the epoch by Redis' clock; null where none is in force. */
  readonly nextEndMs: number | null
  /** When this version was compiled, by the same clock. */
  readonly asOfMs: number
  readonly prices: Prices
  /** The algorithms that limits may name. */
  readonly owns: OwnAlgorithms
}

/** The fields of a rule that follow from its limits. @param active how many of the limits are in force, counted from the first */
export function limitFields(limits: readonly CompiledLimit[], active = limits.length): Pick<CompiledRule, 'limits' | 'keyed' | 'active'> {
  return { limits, keyed: limits.filter(({ algorithm }) => ALGORITHMS[algorithm].keyed), active }
}

/** Compiles the limits of a rule. @throws RulesInvalid where two of them have the same id */
export function compileLimits(rule: string, specs: readonly LimitSpec[], findOwn: FindOwn): Pick<CompiledRule, 'limits' | 'keyed' | 'active'> {
  const limits = specs.map((spec) => compileLimit(spec, findOwn))
  const ids = new Map<number, string>()
  for (const { name, id } of limits) {
    const other = ids.get(id)
    if (other !== undefined && other !== name) throw new RulesInvalid([`rule ${rule}: the limits ${other} and ${name} share an id; rename one of them`])
    ids.set(id, name)
  }
  return limitFields(limits)
}

/** Under throttle a leaky bucket is added to each window: a window alone would let all delayed calls start at the moment it opens. */
function withPaces(strategy: Strategy, limits: readonly LimitSpec[]): readonly LimitSpec[] {
  if (strategy !== 'throttle') return limits
  const paces = limits
    .filter((limit) => !isBucket(limit))
    .map(
      ({ timezone: _zone, startsOn: _weekday, day: _day, hour: _hour, ...limit }): LimitSpec => ({
        ...limit,
        name: `${limitName(limit)} pace`,
        algorithm: 'leaky_bucket',
      }),
    )
  return [...limits, ...paces]
}

function ruleOptions({ strategy, maxWaitMs = 0, maxWaiting = 0, holdMs, maxDelayMs = 0 }: RuleSpec): RuleOptions {
  // `holdMs` is set for every strategy: a call can override the strategy of its rules by throttle.
  return { maxWaitMs, maxWaiting, holdMs: holdMs ?? DEFAULTS.throttleHoldMs, maxDelayMs: strategy === 'throttle' ? maxDelayMs : 0 }
}

function compileDegraded(
  { name, degraded, onStoreError }: RuleSpec,
  priority: number,
  scopeValue: CompiledRule['scopeValue'],
  findOwn: FindOwn,
): CompiledRule | null {
  if (degraded === undefined) return null
  // Names of rules in a policy contain no `~`, so the names cannot clash.
  const own = `${name}~degraded`
  return { ...BARE_RULE, ...compileLimits(own, degraded, findOwn), kind: 'degraded', name: own, priority, strategy: 'retry_after', onStoreError, scopeValue }
}

const UPSTREAM_SCOPES: readonly string[] = ['agent', 'endpoint', 'model']
const UPSTREAM_MATCHES: readonly string[] = ['agents', 'endpoints', 'models']

/** Whether the limits of a rule are those of the agent itself: it counts and matches by agent, endpoint and model alone, and has no degraded mode. */
function guardsUpstream({ scope, match = {}, degraded }: RuleSpec): boolean {
  const matched = Object.entries(match).filter(([, list]) => list !== undefined)
  return degraded === undefined && [scope].flat().every((one) => UPSTREAM_SCOPES.includes(one)) && matched.every(([field]) => UPSTREAM_MATCHES.includes(field))
}

function compileRule(spec: RuleSpec, index: OverrideIndex, owns: OwnAlgorithms): CompiledRule {
  const findOwn = owns.finder((message) => new RulesInvalid([`rule ${spec.name}: ${message}`]))
  const conditions = fieldMatches(spec.match)
  const covered = compileScopeValue(spec, index.addresses(spec), conditions)
  const scopeValue = index.mayLift(spec.name) ? (call: Call) => (index.lifting(spec.name, call) === undefined ? covered(call) : null) : covered
  const priority = spec.priority ?? 0
  const strategy = spec.strategy ?? 'queue'
  const rule: CompiledRule = {
    kind: 'rule',
    name: spec.name,
    priority,
    strategy,
    guards: guardsUpstream(spec),
    ...compileLimits(spec.name, withPaces(strategy, spec.limits), findOwn),
    options: ruleOptions(spec),
    degraded: compileDegraded(spec, priority, scopeValue, findOwn),
    onStoreError: spec.onStoreError,
    missing: compileRequired(spec, conditions),
    conditions,
    scopeValue,
  }
  const candidates = index.candidates(spec)
  return candidates === null ? rule : { ...rule, variants: variantsOf(rule, spec, candidates, findOwn, (call) => index.decide(spec, call)) }
}

/**
 * A rule under an override. The limits that the override replaces stay in the rule behind the
 * `active` ones: their usage is kept, and counts again when the override ends.
 */
function overriddenRule(rule: CompiledRule, spec: RuleSpec, { allow, override: of }: DecidingOverride, findOwn: FindOwn): CompiledRule {
  const override = of?.id
  const { name, strategy, limits } = rule
  if (allow === 'unlimited') return { ...rule, override, ...limitFields(limits, 0) }
  const specs = 'times' in allow ? spec.limits.map((limit) => scaleLimit(limit, allow.times)) : allow.limits
  const own = compileLimits(name, withPaces(strategy, specs), findOwn).limits
  const others = limits.filter(({ id }) => own.every((one) => one.id !== id))
  return { ...rule, override, ...limitFields([...own, ...others], own.length) }
}

function variantsOf(
  rule: CompiledRule,
  spec: RuleSpec,
  candidates: readonly Override[],
  findOwn: FindOwn,
  decide: (call: Call) => DecidingOverride | null,
): Variants {
  // One variant per override, compiled at its first use; permanent lists share one.
  const known = new Map<string, CompiledRule>()
  return {
    of(call) {
      const found = decide(call)
      if (found === null) return undefined
      const key = found.override?.id ?? ''
      let variant = known.get(key)
      if (variant === undefined) {
        variant = overriddenRule(rule, spec, found, findOwn)
        known.set(key, variant)
      }
      return variant
    },
    limits: candidates.flatMap(({ allow }) =>
      typeof allow === 'object' && 'limits' in allow ? allow.limits.map((limit) => compileLimit(limit, findOwn)) : [],
    ),
  }
}

/**
 * Compiles a policy: everything that does not depend on a call, once per version and each time an
 * override ends. @param nowMs by Redis' clock: overrides that have ended by then are left out
 * @throws RulesInvalid where a limit names an algorithm that is not registered
 */
export function compilePolicy(policy: Policy, nowMs: number, twins: Twins = NO_TWINS): RuleSet {
  const specs = rulesOf(policy)
  const overrides = policy.overrides.filter((override) => endOf(override) > nowMs)
  const overrideIndex = new OverrideIndex(overrides, policy.exempt)
  const owns = new OwnAlgorithms(policy.algorithms, twins)
  const rules = specs.filter((spec) => spec.enabled !== false).map((spec) => compileRule(spec, overrideIndex, owns))
  const limits = rules.flatMap((rule) => [...rule.limits, ...(rule.degraded?.limits ?? []), ...(rule.variants?.limits ?? [])])
  return {
    version: versionOf(policy),
    policy,
    specs,
    rules: [...rules, ...pauseRules(policy.pauses, rules)],
    overrides,
    overrideIndex,
    asOfMs: nowMs,
    nextEndMs: overrides.length === 0 ? null : Math.min(...overrides.map(endOf)),
    prices: compilePrices(policy.prices),
    owns,
    counted: countedUnits(limits),
  }
}

/** Compiles a policy that consists of rules alone. */
export function compileRules(declared: readonly RuleSpec[], given: Readonly<Record<string, RuleAlgorithm>> = {}): RuleSet {
  const algorithms = Object.fromEntries(Object.entries(given).map(([name, { lua }]) => [name, lua]))
  return compilePolicy({ ...EMPTY_POLICY, declared, algorithms }, 0, new Twins(given))
}

import { createHash } from 'node:crypto'
import { SocketAddress } from 'node:net'
import type { Call, Strategy } from '../call.js'
import { compilePrices, type Prices, type PriceTable } from '../cost/prices.js'
import { RulesInvalid } from '../errors.js'
import { ALGORITHMS } from '../meters/index.js'
import { type CompiledLimit, compileLimit, countedUnits, encodeRule } from './compile-limit.js'
import type { LimitSpec } from './limit.js'
import { compileMatch } from './match.js'
import type { OnStoreError, RuleSpec } from './rule.js'

/** A rule ready to be applied: pure functions and constants. */
export interface CompiledRule {
  readonly name: string
  readonly priority: number
  readonly strategy: Strategy
  readonly limits: readonly CompiledLimit[]
  /** Limits that have a key of their own: leases of a concurrency, sliding logs. */
  readonly keyed: readonly CompiledLimit[]
  /** What is answered while Redis is away; undefined: what the process was told. */
  readonly onStoreError?: OnStoreError | undefined
  /** The rule as the scripts read it at a time, see `lua/lib/demand.lua`. */
  encoded(atMs: number): string
  /** What the rule counts this call by, or null if it does not cover the call. */
  scopeValue(call: Call): string | null
}

export interface RuleSet {
  /** Equal for equal rules, on every machine. */
  readonly version: string
  readonly rules: readonly CompiledRule[]
  /** The codes of the units of cost that any of them counts. */
  readonly counted: readonly number[]
  /** All of them, as written: those that were declared, and those that were added at run time. */
  readonly specs: readonly RuleSpec[]
  readonly declared: readonly RuleSpec[]
  readonly added: readonly RuleSpec[]
  /** What models cost, as declared and ready to be asked. */
  readonly priceTable: Readonly<PriceTable>
  readonly prices: Prices
}

/** One part of a scope value in a key: unambiguous whatever it holds. */
function escapePart(value: string): string {
  return /^[A-Za-z0-9._@/-]*$/.test(value) ? value : encodeURIComponent(value)
}

/** An address in its one plain form, so that other spellings of it are not counted apart. */
function plainAddress(ip: string): string {
  if (!ip.includes(':')) return ip
  const { address } = new SocketAddress({ address: ip, family: 'ipv6' })
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)
  return mapped?.[1] ?? address
}

function scopePart(scope: string): (call: Call) => string | undefined {
  if (scope === 'global') return () => '*'
  if (scope.startsWith('keys.')) {
    const key = scope.slice('keys.'.length)
    return (call) => (call.keys !== undefined && Object.hasOwn(call.keys, key) ? call.keys[key] : undefined)
  }
  const field = scope as 'agent' | 'endpoint' | 'model' | 'user' | 'team' | 'org' | 'ip'
  return field === 'ip' ? (call) => (call.ip === undefined ? undefined : plainAddress(call.ip)) : (call) => call[field]
}

/** A function from a call to what the scopes count it by; null where the call lacks one of them. */
export function scopeValueOf(scopes: readonly string[]): (call: Call) => string | null {
  const parts = scopes.map(scopePart)
  return (call) => {
    let value = ''
    for (let i = 0; i < parts.length; i++) {
      const part = parts[i]?.(call)
      if (part === undefined) return null
      value = i === 0 ? escapePart(part) : `${value}|${escapePart(part)}`
    }
    return value
  }
}

/** Limits and what scripts need of them. @throws RulesInvalid where two of them cannot be told apart */
export function compileLimits(
  rule: string,
  specs: readonly LimitSpec[],
  priority: number,
  strategy: Strategy,
): Pick<CompiledRule, 'limits' | 'keyed' | 'encoded'> {
  const limits = specs.map(compileLimit)
  const ids = new Map<number, string>()
  for (const { name, id } of limits) {
    const other = ids.get(id)
    if (other !== undefined && other !== name) throw new RulesInvalid([`rule ${rule}: the limits ${other} and ${name} share an id; rename one of them`])
    ids.set(id, name)
  }
  return { limits, keyed: limits.filter(({ algorithm }) => ALGORITHMS[algorithm].keyed), encoded: encodeRule(priority, strategy, limits) }
}

function compileRule(spec: RuleSpec): CompiledRule {
  const matches = compileMatch(spec.match)
  const countedBy = scopeValueOf([spec.scope].flat())
  const priority = spec.priority ?? 0
  const strategy = spec.strategy ?? 'queue'
  return {
    name: spec.name,
    priority,
    strategy,
    ...compileLimits(spec.name, spec.limits, priority, strategy),
    onStoreError: spec.onStoreError,
    scopeValue: (call) => (matches(call) ? countedBy(call) : null),
  }
}

/** Works out everything about rules that does not depend on a call, once per version. */
export function compileRules(declared: readonly RuleSpec[], priceTable: Readonly<PriceTable> = {}, added: readonly RuleSpec[] = []): RuleSet {
  const version = createHash('sha256')
    .update(JSON.stringify([declared, priceTable, added]))
    .digest('hex')
    .slice(0, 16)
  const specs = [...declared, ...added]
  const rules = specs.filter((spec) => spec.enabled !== false).map(compileRule)
  return { version, specs, declared, added, rules, priceTable, prices: compilePrices(priceTable), counted: countedUnits(rules.flatMap(({ limits }) => limits)) }
}

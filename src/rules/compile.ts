import { createHash } from 'node:crypto'
import { SocketAddress } from 'node:net'
import type { Call, Strategy } from '../call.js'
import { DEFAULTS } from '../config/defaults.js'
import { DAY, WEEK } from '../config/units.js'
import { RulesInvalid } from '../errors.js'
import type { MeterLimit } from '../meters/algorithm.js'
import { ALGORITHMS, type AlgorithmName } from '../meters/index.js'
import { compileMatch } from './match.js'
import { type LimitSpec, limitName, periodMs, type RuleSpec, UNITS, type Unit } from './rule.js'

/** One limit with its numbers worked out. */
export interface CompiledLimit extends MeterLimit {
  readonly name: string
  readonly unit: Unit | 'none'
  readonly algorithm: AlgorithmName
  /** What it allows per window, as written; for a concurrency the slots. */
  readonly limit: number
  /** Null for a concurrency and a block. */
  readonly windowMs: number | null
}

/** A rule ready to be applied: pure functions and constants. */
export interface CompiledRule {
  readonly name: string
  readonly priority: number
  readonly strategy: Strategy
  readonly limits: readonly CompiledLimit[]
  readonly hasLeases: boolean
  /** The rule as the scripts read it (see `lua/lib/demand.lua`), encoded once. */
  readonly encoded: string
  /** What the rule counts this call by, or null if it does not cover the call. */
  scopeValue(call: Call): string | null
}

export interface RuleSet {
  /** Equal for equal rules, on every machine. */
  readonly version: string
  readonly rules: readonly CompiledRule[]
  readonly specs: readonly RuleSpec[]
}

/** How strict a strategy is, as scripts compare it; leaves room for the ones between. */
export const STRICTNESS: Readonly<Record<Strategy, number>> = { queue: 1, hard: 5 }
const UNIT_CODES: Readonly<Record<CompiledLimit['unit'], number>> = { requests: 1, tokens: 2, concurrency: 3, none: 4 }
/** Windows of weeks begin on Monday; the epoch was a Thursday. */
const MONDAY_OFFSET_MS = 4 * DAY

/** FNV-1a, 32 bit (Fowler, Noll, Vo): the id of a limit in packed meters. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0
  return hash
}

function compileLimit(spec: LimitSpec): CompiledLimit {
  const unit = UNITS.find((candidate) => spec[candidate] !== undefined) as Unit
  const limit = spec[unit] as number
  const name = limitName(spec)
  if (unit === 'concurrency') {
    return {
      name,
      unit,
      algorithm: 'concurrency',
      limit,
      windowMs: null,
      capacity: limit,
      a: spec.lease === undefined ? DEFAULTS.slotLeaseMs : (periodMs(spec.lease) as number),
      b: 0,
    }
  }
  const windowMs = periodMs(spec.per as string) as number
  if (spec.algorithm === 'fixed_window') {
    return { name, unit, algorithm: 'fixed_window', limit, windowMs, capacity: limit, a: windowMs, b: windowMs === WEEK ? MONDAY_OFFSET_MS : 0 }
  }
  // A bucket of requests holds at least one, however slowly it fills: else none would ever pass.
  const least = unit === 'requests' ? 1 : 0
  const capacity = limit === 0 ? 0 : (spec.burst ?? Math.max(least, limit * (spec.burstMultiplier ?? 1)))
  return { name, unit, algorithm: 'token_bucket', limit, windowMs, capacity, a: limit / windowMs, b: 0 }
}

export function encodeRule(priority: number, strategy: Strategy, limits: readonly CompiledLimit[]): string {
  const encoded = limits.map((limit) => [hashOf(limit.name), ALGORITHMS[limit.algorithm].code, UNIT_CODES[limit.unit], limit.capacity, limit.a, limit.b])
  return JSON.stringify([priority, STRICTNESS[strategy], encoded])
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

function compileRule(spec: RuleSpec): CompiledRule {
  const limits = spec.limits.map(compileLimit)
  const ids = new Map<number, string>()
  for (const { name } of limits) {
    const other = ids.get(hashOf(name))
    if (other !== undefined && other !== name) throw new RulesInvalid([`rule ${spec.name}: the limits ${other} and ${name} share an id; rename one of them`])
    ids.set(hashOf(name), name)
  }
  const matches = compileMatch(spec.match)
  const countedBy = scopeValueOf([spec.scope].flat())
  const priority = spec.priority ?? 0
  const strategy = spec.strategy ?? 'queue'
  return {
    name: spec.name,
    priority,
    strategy,
    limits,
    hasLeases: limits.some((limit) => limit.unit === 'concurrency'),
    encoded: encodeRule(priority, strategy, limits),
    scopeValue: (call) => (matches(call) ? countedBy(call) : null),
  }
}

/** Works out everything about rules that does not depend on a call, once per version. */
export function compileRules(specs: readonly RuleSpec[]): RuleSet {
  const version = createHash('sha256').update(JSON.stringify(specs)).digest('hex').slice(0, 16)
  return { version, specs, rules: specs.filter((spec) => spec.enabled !== false).map(compileRule) }
}

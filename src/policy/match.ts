import type { Call } from '../model/call.js'
import { DEFAULTS } from '../model/defaults.js'
import { type AddressCounting, countedRange, parseRange } from '../validation/address.js'
import { endpointPath, normalPath } from '../validation/endpoint.js'
import { compileGlob, isGlob } from '../validation/patterns.js'
import type { MatchSpec, RuleSpec } from './rule.js'

type Predicate = (value: string) => boolean

function anyOf(predicates: readonly Predicate[]): Predicate {
  return (value) => predicates.some((predicate) => predicate(value))
}

const FIELDS = ['agent', 'endpoint', 'model', 'user', 'team', 'org'] as const

/** A glob in the spelling of the endpoints that it is compared with. */
function endpointGlob(glob: string): string {
  return normalPath(/^[*?]/.test(glob) ? glob : `/${glob}`)
}

/** One condition of a rule's match: the value of a field has to be among those listed. */
export interface FieldMatch {
  readonly field: string
  valueIn(call: Call): string | undefined
  /** The values that match; undefined where globs or ranges are among them. */
  readonly values: ReadonlySet<string> | undefined
  matches(value: string): boolean
}

function namesMatch(field: string, listed: readonly string[]): FieldMatch {
  const names = field === 'endpoint' ? listed.map(endpointGlob) : listed
  const values = new Set(names.filter((name) => !isGlob(name)))
  const globs = names.filter(isGlob).map(compileGlob)
  const isGlobbed = anyOf(globs)
  return {
    field,
    valueIn: scopePart(field),
    values: globs.length === 0 ? values : undefined,
    matches: (value) => values.has(value) || isGlobbed(value),
  }
}

/** Compiles a rule's `match` to its conditions, which a call must meet all. A call that lacks a matched field is not covered. */
export function fieldMatches(match: MatchSpec | undefined): readonly FieldMatch[] {
  const conditions: FieldMatch[] = []
  for (const field of FIELDS) {
    const listed = match?.[`${field}s`]
    if (listed !== undefined) conditions.push(namesMatch(field, listed))
  }
  for (const [key, listed] of Object.entries(match?.keys ?? {})) conditions.push(namesMatch(`keys.${key}`, listed))
  if (match?.ips !== undefined) {
    const inRange = anyOf(match.ips.map((range) => parseRange(range) ?? (() => false)))
    conditions.push({ field: 'ip', valueIn: ({ ip }) => ip, values: undefined, matches: inRange })
  }
  return conditions
}

/** Compiles a rule's `match` to a check of calls. */
export function compileMatch(match: MatchSpec | undefined): (call: Call) => boolean {
  return meetsAll(fieldMatches(match))
}

function meetsAll(conditions: readonly FieldMatch[]): (call: Call) => boolean {
  return (call) =>
    conditions.every(({ valueIn, matches }) => {
      const value = valueIn(call)
      return value !== undefined && matches(value)
    })
}

/** Escapes one part of a scope value for a key, so that no two scope values make the same key. */
export function escapePart(value: string): string {
  return /^[A-Za-z0-9._@/-]*$/.test(value) ? value : encodeURIComponent(value)
}

/** What was escaped by `escapePart`; any other text as it is. */
export function unescapePart(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

/** Compiles a scope to a function that gives the value of a call; undefined where the call lacks it. */
function scopePart(scope: string, addresses: AddressCounting = DEFAULTS): (call: Call) => string | undefined {
  if (scope === 'global') return () => '*'
  if (scope.startsWith('keys.')) {
    const key = scope.slice('keys.'.length)
    return (call) => (call.keys !== undefined && Object.hasOwn(call.keys, key) ? call.keys[key] : undefined)
  }
  if (scope === 'ip') return (call) => (call.ip === undefined ? undefined : countedRange(call.ip, addresses))
  if (scope === 'endpoint') return (call) => (call.endpoint === undefined ? undefined : endpointPath(call.endpoint))
  return (call) => call[scope as Exclude<(typeof FIELDS)[number], 'endpoint'>]
}

/** Compiles scopes to a function that gives the scope value of a call; null where the call lacks one of the fields. */
export function scopeValueOf(scopes: readonly string[], addresses?: AddressCounting): (call: Call) => string | null {
  const parts = scopes.map((scope) => scopePart(scope, addresses))
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

/** Compiles the scope and the match of a rule to a function that gives the scope value of a call; null for calls that the rule does not cover. */
export function compileScopeValue(
  { scope, match }: Pick<RuleSpec, 'scope' | 'match'>,
  addresses?: AddressCounting,
  conditions = fieldMatches(match),
): (call: Call) => string | null {
  const matches = meetsAll(conditions)
  const scopeValue = scopeValueOf([scope].flat(), addresses)
  return (call) => (matches(call) ? scopeValue(call) : null)
}

/** Compiles what a rule requires to a function that gives the first field that a call lacks; undefined for a complete one, and for one that the rule's match leaves out. */
export function compileRequired(
  { requires, match }: Pick<RuleSpec, 'requires' | 'match'>,
  conditions = fieldMatches(match),
): ((call: Call) => string | undefined) | undefined {
  if (requires === undefined) return undefined
  const matches = meetsAll(conditions)
  const required = requires.map((field) => [field, scopePart(field)] as const)
  return (call) => (matches(call) ? required.find(([, valueIn]) => valueIn(call) === undefined)?.[0] : undefined)
}

const blockScopes = scopeValueOf(['agent', 'endpoint', 'model'])

/** The scope value of a block: agent, endpoint and model, since a 429 of one model tells nothing about another. */
export function blockValue({ agent, endpoint = '', model = '' }: Call): string {
  return blockScopes({ agent, endpoint, model }) ?? ''
}

import type { Call } from '../model/call.js'
import { DEFAULTS } from '../model/defaults.js'
import { type AddressCounting, countedNetwork, isWithin, type Network, parseNetwork } from '../validation/address.js'
import { compileGlob, isGlob } from '../validation/patterns.js'
import { type Allowance, type Exempt, OVERRIDABLE, type Overridable, type Override, subjectOf } from './override.js'
import type { RuleSpec } from './rule.js'

/** The allowance of a meter in place of its rule's limits, and the override that grants it; null where a permanent list (`exempt`) does. */
export interface DecidingOverride {
  readonly allow: Allowance
  readonly override: Override | null
}

type Field = Exclude<Overridable, 'rule'>

/** What an override or a list is compared with: a name, or the network that a meter counts. */
type Subject = string | Network
type Check = (subject: Subject) => boolean

/** What is asked of a rule. */
type Counting = Pick<RuleSpec, 'name' | 'scope' | 'ipv6Prefix'>

const FIELDS = OVERRIDABLE.filter((kind) => kind !== 'rule')

/** The subject that a meter counts a call by. Of an address that is its network: all calls of one meter are overridden alike. */
function subjectIn(call: Call, field: Field, addresses: AddressCounting): Subject | undefined {
  const value = call[field]
  return field === 'ip' && value !== undefined ? countedNetwork(value, addresses) : value
}

/** Each address by itself. */
const SINGLY: AddressCounting = { ipv6Prefix: 128 }

function rangesOf(texts: readonly string[]): Network[] {
  return texts.flatMap((text) => parseNetwork(text) ?? [])
}

function compileExempt(field: Field, list: readonly string[]): Check {
  if (field === 'ip') {
    const ranges = rangesOf(list)
    return (subject) => typeof subject !== 'string' && ranges.some((range) => isWithin(subject, range))
  }
  const names = new Set(list.filter((one) => !isGlob(one)))
  const globs = list.filter(isGlob).map(compileGlob)
  return (subject) => typeof subject === 'string' && (names.has(subject) || globs.some((matches) => matches(subject)))
}

class OverridesOfKind {
  private readonly byValue = new Map<string, Override[]>()
  private readonly byRange: (readonly [Network, Override])[] = []

  constructor(
    kind: Overridable,
    readonly all: readonly Override[],
  ) {
    for (const override of all) {
      const [, value] = subjectOf(override)
      const range = kind === 'ip' ? parseNetwork(value) : null
      if (range !== null) this.byRange.push([range, override])
      else this.byValue.set(value, [...(this.byValue.get(value) ?? []), override])
    }
  }

  find(subject: Subject): readonly Override[] {
    if (typeof subject === 'string') return this.byValue.get(subject) ?? []
    return this.byRange.flatMap(([range, override]) => (isWithin(subject, range) ? [override] : []))
  }
}

export function appliesTo(rule: string, { rules }: Override): boolean {
  return rules === undefined || rules.some((glob) => compileGlob(glob)(rule))
}

/** Which of several overrides decides: one that lifts the limits; else the latest with its own limits; else the one with the largest factor. */
function strongest(overrides: readonly Override[]): Override | undefined {
  const unlimited = overrides.find(({ allow }) => allow === 'unlimited')
  if (unlimited !== undefined) return unlimited
  const own = overrides.filter(({ allow }) => typeof allow === 'object' && 'limits' in allow)
  if (own.length > 0) return own.reduce((latest, one) => (one.grantedAt >= latest.grantedAt ? one : latest))
  return overrides.reduce<Override | undefined>((most, one) => (most === undefined || timesOf(one) > timesOf(most) ? one : most), undefined)
}

function timesOf({ allow }: Override): number {
  return typeof allow === 'object' && 'times' in allow ? allow.times : 1
}

/** Finds the override or permanent list that decides about a meter. */
export class OverrideIndex {
  private readonly kinds = new Map<Overridable, OverridesOfKind>()
  private readonly exempt = new Map<Field, Check>()

  private readonly exemptRanges: readonly Network[]
  /** The overrides that lift every rule for the calls of their subject. */
  private readonly everything = new Map<Field, OverridesOfKind>()

  constructor(overrides: readonly Override[], exempt: Exempt) {
    this.exemptRanges = rangesOf(exempt.ips ?? [])
    const ofKind = (kind: Overridable, everything: boolean) => {
      const of = overrides.filter((override) => subjectOf(override)[0] === kind && (override.everything === true) === everything)
      return of.length === 0 ? undefined : new OverridesOfKind(kind, of)
    }
    for (const kind of OVERRIDABLE) {
      const found = ofKind(kind, false)
      if (found !== undefined) this.kinds.set(kind, found)
    }
    for (const field of FIELDS) {
      const found = ofKind(field, true)
      if (found !== undefined) this.everything.set(field, found)
      const list = exempt[`${field}s`] ?? []
      if (list.length > 0) this.exempt.set(field, compileExempt(field, list))
    }
  }

  /** The override that lifts every rule for a call, and applies to this one; undefined where none does. */
  lifting(rule: string, call: Call): Override | undefined {
    return this.liftingAny(call).find((override) => appliesTo(rule, override))
  }

  /** The overrides that lift every rule, or some of all kinds, for a call. */
  liftingAny(call: Call): readonly Override[] {
    if (this.everything.size === 0) return []
    return [...this.everything].flatMap(([field, of]) => {
      const subject = subjectIn(call, field, SINGLY)
      return subject === undefined ? [] : of.find(subject)
    })
  }

  /** Whether any override may lift a rule for calls of its subject. */
  mayLift(rule: string): boolean {
    return [...this.everything.values()].some(({ all }) => all.some((override) => appliesTo(rule, override)))
  }

  /** How a rule counts addresses: an exception for a part of a network makes that a network of its own. */
  addresses({ name, scope, ipv6Prefix = DEFAULTS.ipv6Prefix }: Counting): AddressCounting {
    if (![scope].flat().includes('ip')) return { ipv6Prefix }
    const overrides = (this.kinds.get('ip')?.all ?? []).filter((override) => appliesTo(name, override))
    const ranges = [...rangesOf(overrides.map((override) => subjectOf(override)[1])), ...this.exemptRanges]
    return { ipv6Prefix, exceptions: ranges.filter(({ prefix }) => prefix > ipv6Prefix).sort((one, other) => other.prefix - one.prefix) }
  }

  /** The overrides that can apply to meters of a rule; null where neither an override nor a permanent list can. */
  candidates({ name: rule, scope }: Counting): readonly Override[] | null {
    const scopes = [scope].flat()
    const found = [...(this.kinds.get('rule')?.find(rule) ?? [])]
    let lists = false
    for (const field of FIELDS) {
      if (!scopes.includes(field)) continue
      lists ||= this.exempt.has(field)
      for (const override of this.kinds.get(field)?.all ?? []) if (appliesTo(rule, override)) found.push(override)
    }
    return found.length > 0 || lists ? found : null
  }

  /** The override or list that decides about a call's meter at a rule; null where the rule's own limits are in force. The same for every call of that meter. */
  decide(counting: Counting, call: Call): DecidingOverride | null {
    const { name: rule, scope } = counting
    const scopes = [scope].flat()
    const found = [...(this.kinds.get('rule')?.find(rule) ?? [])]
    for (const field of FIELDS) {
      const subject = scopes.includes(field) ? subjectIn(call, field, this.addresses(counting)) : undefined
      if (subject === undefined) continue
      if (this.exempt.get(field)?.(subject) === true) return { allow: 'unlimited', override: null }
      found.push(...(this.kinds.get(field)?.find(subject) ?? []))
    }
    const override = strongest(found.filter((one) => appliesTo(rule, one)))
    return override === undefined ? null : { allow: override.allow, override }
  }
}

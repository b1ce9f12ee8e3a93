import type { Call } from '../model/call.js'
import { compileGlob, isGlob, parseRange, plainAddress } from '../validation/patterns.js'
import { type Allowance, type Exempt, OVERRIDABLE, type Overridable, type Override, subjectOf } from './override.js'

/** The allowance of a meter in place of its rule's limits, and the override that grants it; null where a permanent list (`exempt`) does. */
export interface DecidingOverride {
  readonly allow: Allowance
  readonly override: Override | null
}

type Check = (value: string) => boolean
type Field = Exclude<Overridable, 'rule'>

const FIELDS = OVERRIDABLE.filter((kind) => kind !== 'rule')

/** The value of a call that overrides are matched with. An address is taken in its canonical form, as in the names of meters. */
function subjectValue(call: Call, field: Field): string | undefined {
  const value = call[field]
  return field === 'ip' && value !== undefined ? plainAddress(value) : value
}

function compileExempt(field: Field, list: readonly string[]): Check {
  if (field === 'ip') {
    const ranges = list.map((range) => parseRange(range) ?? (() => false))
    return (ip) => ranges.some((inRange) => inRange(ip))
  }
  const names = new Set(list.filter((one) => !isGlob(one)))
  const globs = list.filter(isGlob).map(compileGlob)
  return (value) => names.has(value) || globs.some((matches) => matches(value))
}

class OverridesOfKind {
  private readonly byValue = new Map<string, Override[]>()
  private readonly byRange: (readonly [Check, Override])[] = []

  constructor(
    kind: Overridable,
    readonly all: readonly Override[],
  ) {
    for (const override of all) {
      const [, value] = subjectOf(override)
      const inRange = kind === 'ip' ? parseRange(value) : null
      if (inRange !== null) this.byRange.push([inRange, override])
      else this.byValue.set(value, [...(this.byValue.get(value) ?? []), override])
    }
  }

  find(value: string): readonly Override[] {
    const ranges = this.byRange.filter(([inRange]) => inRange(value)).map(([, override]) => override)
    return [...(this.byValue.get(value) ?? []), ...ranges]
  }
}

function appliesTo(rule: string, { rules }: Override): boolean {
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

  constructor(overrides: readonly Override[], exempt: Exempt) {
    for (const kind of OVERRIDABLE) {
      const of = overrides.filter((override) => subjectOf(override)[0] === kind)
      if (of.length > 0) this.kinds.set(kind, new OverridesOfKind(kind, of))
    }
    for (const field of FIELDS) {
      const list = exempt[`${field}s`] ?? []
      if (list.length > 0) this.exempt.set(field, compileExempt(field, list))
    }
  }

  /** The overrides that can apply to meters of a rule; null where neither an override nor a permanent list can. */
  candidates(rule: string, scopes: readonly string[]): readonly Override[] | null {
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
  decide(rule: string, scopes: readonly string[], call: Call): DecidingOverride | null {
    const found = [...(this.kinds.get('rule')?.find(rule) ?? [])]
    for (const field of FIELDS) {
      const value = scopes.includes(field) ? subjectValue(call, field) : undefined
      if (value === undefined) continue
      if (this.exempt.get(field)?.(value) === true) return { allow: 'unlimited', override: null }
      found.push(...(this.kinds.get(field)?.find(value) ?? []))
    }
    const override = strongest(found.filter((one) => appliesTo(rule, one)))
    return override === undefined ? null : { allow: override.allow, override }
  }
}

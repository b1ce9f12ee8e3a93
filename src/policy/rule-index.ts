import type { Call } from '../model/call.js'
import type { CompiledRule } from './compiled-rule.js'
import type { FieldMatch } from './match.js'

/** So few rules are all asked for each call: that is faster than to look for those that can cover it. */
const FEW = 8
/** Values of one field whose rules are remembered: two generations of so many. */
const KNOWN_VALUES = 10_000
const NONE: readonly number[] = []

/** The rules that are found by one field: each covers calls of certain values of it alone. Rules are named by their places in the rule set. */
class FieldIndex {
  private readonly byValue = new Map<string, number[]>()
  private readonly others: (readonly [place: number, condition: FieldMatch])[] = []
  private recent = new Map<string, readonly number[]>()
  private older = new Map<string, readonly number[]>()

  constructor(private readonly valueIn: FieldMatch['valueIn']) {}

  add(place: number, condition: FieldMatch): void {
    if (condition.values === undefined) this.others.push([place, condition])
    for (const value of condition.values ?? []) {
      const places = this.byValue.get(value)
      if (places === undefined) this.byValue.set(value, [place])
      else places.push(place)
    }
  }

  /** Places in ascending order. */
  placesOf(call: Call): readonly number[] {
    const value = this.valueIn(call)
    if (value === undefined) return NONE
    return this.others.length === 0 ? (this.byValue.get(value) ?? NONE) : this.rememberedOf(value)
  }

  /** Globs and ranges are compared with a value once, as long as it is in use. */
  private rememberedOf(value: string): readonly number[] {
    const known = this.recent.get(value)
    if (known !== undefined) return known
    let places = this.older.get(value)
    if (places === undefined) {
      const globbed = this.others.filter(([, { matches }]) => matches(value)).map(([place]) => place)
      places = merged(this.byValue.get(value) ?? NONE, globbed)
    }
    if (this.recent.size >= KNOWN_VALUES) {
      this.older = this.recent
      this.recent = new Map()
    }
    this.recent.set(value, places)
    return places
  }
}

/** Two ascending lists without a common element as one. */
function merged(one: readonly number[], other: readonly number[]): readonly number[] {
  if (one.length === 0) return other
  return other.length === 0 ? one : [...one, ...other].sort((a, b) => a - b)
}

/** The condition of a rule that the fewest calls can be taken to meet: one that lists values, of the field for which the rules list most values. */
function mostSelective(conditions: readonly FieldMatch[], listed: ReadonlyMap<string, ReadonlySet<string>>): FieldMatch | undefined {
  const weight = ({ field, values }: FieldMatch) => (values === undefined ? 0 : (listed.get(field)?.size ?? 0))
  return conditions.reduce<FieldMatch | undefined>((best, one) => (best === undefined || weight(one) > weight(best) ? one : best), undefined)
}

/**
 * Finds the rules that may cover a call, so that the cost of a call does not grow with the rules that do not match it.
 *
 * Each rule that has a match stands under one of its conditions: under each value that it lists, or, where it lists globs or ranges, among those of its
 * field that are compared with each value at its first use. Rules without a match are asked for every call. Whether a rule that was found covers the
 * call says its `scopeValue`, as before: the index leaves out only what it refuses.
 */
export class RuleIndex<Entry extends { readonly rule: Pick<CompiledRule, 'conditions'> }> {
  private readonly always: readonly number[]
  private readonly alwaysEntries: readonly Entry[]
  private readonly fields: readonly FieldIndex[]

  constructor(private readonly entries: readonly Entry[]) {
    const listed = new Map<string, Set<string>>()
    for (const { field, values } of entries.flatMap(({ rule }) => rule.conditions ?? [])) {
      const all = listed.get(field) ?? new Set()
      for (const value of values ?? []) all.add(value)
      listed.set(field, all)
    }
    const fields = new Map<string, FieldIndex>()
    const always: number[] = []
    for (const [place, { rule }] of entries.entries()) {
      const condition = entries.length <= FEW ? undefined : mostSelective(rule.conditions ?? [], listed)
      if (condition === undefined) {
        always.push(place)
        continue
      }
      const { field, valueIn } = condition
      const index = fields.get(field) ?? new FieldIndex(valueIn)
      index.add(place, condition)
      fields.set(field, index)
    }
    this.always = always
    this.alwaysEntries = this.at(always)
    this.fields = [...fields.values()]
  }

  /** Entries of all rules that cover a call, and of few others, in the order of the rules. */
  candidates(call: Call): readonly Entry[] {
    let places = this.always
    for (const field of this.fields) places = merged(places, field.placesOf(call))
    return places === this.always ? this.alwaysEntries : this.at(places)
  }

  private at(places: readonly number[]): Entry[] {
    return places.map((place) => this.entries[place] as Entry)
  }
}

import type { Call } from '../model/call.js'
import type { CompiledRule } from '../policy/compiled-rule.js'
import type { Keys } from '../redis/keys.js'
import type { MeterRef } from './request.js'

/** The meters of a rule for one scope value; their keys are built where they are needed. */
class Part implements MeterRef {
  readonly rule: CompiledRule
  readonly value: string
  readonly #names: Keys
  #keys: readonly string[] | undefined
  #line: string | undefined

  constructor(rule: CompiledRule, value: string, names: Keys) {
    this.rule = rule
    this.value = value
    this.#names = names
  }

  get keys(): readonly string[] {
    this.#keys ??= this.build()
    return this.#keys
  }

  get line(): string {
    this.#line ??= this.#names.line(this.rule.name, this.value)
    return this.#line
  }

  private build(): string[] {
    const { name, keyed } = this.rule
    const keys = [this.#names.meter(name, this.value)]
    for (const limit of keyed) {
      keys.push(limit.unit === 'concurrency' ? this.#names.leases(name, this.value) : this.#names.log(name, limit.id, this.value))
    }
    return keys
  }
}

/** How many scope values' meters are remembered per rule at least, so that busy ones are not made anew for each call; at most twice as many. */
const REMEMBERED = 10_000

/** The meters of one rule, by scope value. */
export class RuleMeters {
  private readonly rule: CompiledRule
  private readonly names: Keys
  private recent = new Map<string, MeterRef>()
  /** Those before them: whoever is not met again goes. */
  private older = new Map<string, MeterRef>()

  constructor(rule: CompiledRule, names: Keys) {
    this.rule = rule
    this.names = names
  }

  /** @param call one that meets these meters: an override may be for it. All that meet them are overridden alike */
  part(value: string, call?: Call): MeterRef {
    return this.partFor(value, () => (call && this.rule.variants?.of(call)) ?? this.rule)
  }

  /** @param ruleOf its rule, where they differ from value to value */
  partFor(value: string, ruleOf: () => CompiledRule): MeterRef {
    const known = this.recent.get(value)
    if (known !== undefined) return known
    const part = this.older.get(value) ?? new Part(ruleOf(), value, this.names)
    if (this.recent.size >= REMEMBERED) {
      this.older = this.recent
      this.recent = new Map()
    }
    this.recent.set(value, part)
    return part
  }
}

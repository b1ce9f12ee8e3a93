import type { Call } from '../model/call.js'
import type { CompiledRule } from '../policy/compiled-rule.js'
import type { Keys } from '../redis/keys.js'
import type { MeterRef } from './request.js'

/** The meter of a rule for one scope value. Its keys are built at their first use: a meter in memory never needs them. */
class LazyMeterRef implements MeterRef {
  #keys: readonly string[] | undefined
  #line: string | undefined

  constructor(
    readonly rule: CompiledRule,
    readonly value: string,
    private readonly names: Keys,
  ) {}

  get keys(): readonly string[] {
    this.#keys ??= this.buildKeys()
    return this.#keys
  }

  get line(): string {
    this.#line ??= this.names.line(this.rule.name, this.value)
    return this.#line
  }

  private buildKeys(): string[] {
    const { name, keyed } = this.rule
    const keys = [this.names.meter(name, this.value)]
    for (const limit of keyed) {
      keys.push(limit.unit === 'concurrency' ? this.names.leases(name, this.value) : this.names.log(name, limit.id, this.value))
    }
    return keys
  }
}

/** The cache of a rule holds at least its last so many meters, so that busy ones are not built for each call, and at most twice as many. */
const CACHED_METERS = 10_000

/** The meters of one rule, by scope value. */
export class RuleMeters {
  private recent = new Map<string, MeterRef>()
  /** The generation before `recent`: a meter that is not used again is dropped with it. */
  private older = new Map<string, MeterRef>()

  constructor(
    private readonly rule: CompiledRule,
    private readonly names: Keys,
  ) {}

  /** @param call any call of this meter, to find its override: the override is the same for all calls of one meter */
  meter(value: string, call?: Call): MeterRef {
    return this.meterFor(value, () => (call && this.rule.variants?.of(call)) ?? this.rule)
  }

  /** @param ruleOf gives the rule of a meter that is not cached, where the rule depends on the value */
  meterFor(value: string, ruleOf: () => CompiledRule): MeterRef {
    const known = this.recent.get(value)
    if (known !== undefined) return known
    const meter = this.older.get(value) ?? new LazyMeterRef(ruleOf(), value, this.names)
    if (this.recent.size >= CACHED_METERS) {
      this.older = this.recent
      this.recent = new Map()
    }
    this.recent.set(value, meter)
    return meter
  }
}

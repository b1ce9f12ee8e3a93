import type { AdmissionRequest, CallRequest, MeterRef } from '../../admission/request.js'
import type { CompiledLimit } from '../../limits/compiled-limit.js'
import { COST_UNITS, type CostUnit } from '../../model/cost.js'
import type { CompiledRule } from '../../policy/compiled-rule.js'
import type { Keys } from '../../redis/keys.js'
import { DOUBLE, doublesOf, type NamedMeter } from './decoder.js'
import type { BatchEncoder } from './encoder.js'
import { UNIT_CODES } from './protocol.js'
import { encodedRule, isSameRule } from './rule-encoder.js'

/** What the sums of a rule need to know of it. */
interface SummedRule {
  /** The units of its limits, in their order: `number_units` in `lua/lib/rule.lua`. */
  readonly units: readonly CostUnit[]
  /** Those of the limits that are in force. */
  readonly active: ReadonlySet<CostUnit>
  readonly doubles: number
}

const summedRules = new WeakMap<CompiledRule, SummedRule | null>()

/** Null where calls of the rule are decided on one by one: a limit has a key (slots, a sliding log) or an algorithm of its own, or the rule is a pause. */
function summed(rule: CompiledRule): SummedRule | null {
  let known = summedRules.get(rule)
  if (known === undefined) {
    const { limits, active, keyed, kind } = rule
    const units = (some: readonly CompiledLimit[]) => new Set(some.map(({ unit }) => unit as CostUnit))
    const doubles = limits.reduce((sum, limit) => sum + doublesOf(limit), 0)
    const oneByOne = keyed.length > 0 || kind === 'pause' || limits.some(({ own }) => own !== undefined)
    known = oneByOne ? null : { units: [...units(limits)], active: units(limits.slice(0, active)), doubles }
    summedRules.set(rule, known)
  }
  return known
}

/** What all calls of a batch cost at one meter. */
interface Sums {
  readonly meter: MeterRef
  readonly units: readonly CostUnit[]
  readonly active: ReadonlySet<CostUnit>
  /** The number of its rule in the batch. */
  readonly rule: number
  readonly amounts: number[]
  calls: number
  opens: number
}

/**
 * Collects calls into the sums of their costs, for one call of the script `check-sums`. A call is added as a whole or not at all: the caller sends those
 * that were not added one by one.
 */
export class SumsEncoder {
  private readonly sums = new Map<string, Sums>()
  private readonly rules = new Map<CompiledRule, number>()
  /** The keys of blocks: nothing is in them where the agents of the calls have said nothing. */
  private readonly blocks = new Set<string>()
  private readonly requests: AdmissionRequest[] = []
  /** Those of the jobs of starts, as their workers hold them. */
  private readonly locks: NonNullable<CallRequest['lock']>[] = []
  private counted: readonly CostUnit[] = []

  /**
   * @param nowMs about now: which borders of a calendar the script may need
   * @param isTight whether a key is known to stand in the way
   */
  constructor(
    private readonly names: Keys,
    private readonly nowMs: number,
    private readonly isTight: (key: string) => boolean,
  ) {}

  get size(): number {
    return this.requests.length
  }

  /** Adds a call of the gate, unless it has to be decided on by itself, or meets a meter of the batch under other limits. */
  add(request: AdmissionRequest): boolean {
    // Under an id of its own it has a record.
    return request.call.id === undefined && this.enter(request)
  }

  /** Adds a start of a worker in the same way. */
  addStart(request: CallRequest): boolean {
    if (request.call.deadline !== undefined || !this.enter(request)) return false
    if (request.lock !== undefined) this.locks.push(request.lock)
    return true
  }

  private enter(request: AdmissionRequest): boolean {
    const { meters, costs, counted, forGood } = request
    for (const { rule, keys } of meters) {
      const key = keys[0] as string
      const known = this.sums.get(key)
      if (known === undefined ? this.isTight(key) || (rule.kind !== 'upstream' && summed(rule) === null) : !isSameRule(known.meter.rule, rule, this.nowMs))
        return false
    }
    for (const meter of meters) {
      if (meter.rule.kind === 'upstream') {
        this.blocks.add(meter.keys[0] as string)
        continue
      }
      const sums = this.sumsOf(meter)
      const { units, active, amounts } = sums
      let costsAnything = false
      for (let n = 0; n < units.length; n++) {
        const unit = units[n] as CostUnit
        const cost = costs[unit]
        if (cost === 0) continue
        amounts[n] = (amounts[n] as number) + cost
        costsAnything ||= active.has(unit)
      }
      if (!costsAnything) continue
      sums.calls++
      if (forGood !== true) sums.opens++
    }
    this.requests.push(request)
    if (this.counted !== counted) this.counted = this.counted.length === 0 ? counted : [...new Set([...this.counted, ...counted])]
    return true
  }

  /** The keys and arguments of the script call, after the first one. @param ledger the name of the ledger of the calls: each has the place there of its number */
  encode(ledger: string): { keys: string[]; args: string[] } {
    const entries = this.entries()
    const expectedEmpty = [...(entries === '' ? [] : [this.names.ledger(ledger)]), ...this.blocks]
    const meters = this.list(({ rule }) => rule)
    const rules = [...this.rules.keys()].map((rule) => encodedRule(rule, this.nowMs).json)
    return {
      keys: [...this.names.fixed, ...expectedEmpty, ...this.sums.keys()],
      args: [`[${expectedEmpty.length},[${meters}]]`, entries, ...rules],
    }
  }

  /** The last arguments of the script `start-sums`; adds the keys and meters of the starts to a batch. @param ledger as in `encode` */
  encodeStarts(batch: BatchEncoder, ledger: string): string[] {
    const list = this.list(({ meter }) => batch.meet(meter))
    const expectedEmpty = [this.names.ledger(ledger), ...this.requests.map(({ id }) => this.names.call(id)), ...this.blocks]
    const empty = expectedEmpty.map((key) => batch.keys.push(key))
    const locks = this.locks.flatMap(({ key, token }) => [batch.keys.push(key), token])
    return [`[[${list}],[${empty}],${JSON.stringify(locks)}]`, this.entries()]
  }

  /** By the key of its meter, what the reply says and where. */
  named(): ReadonlyMap<string, NamedMeter> {
    const named = new Map<string, NamedMeter>()
    let offset = DOUBLE
    for (const [key, { meter }] of this.sums) {
      named.set(key, { meter, offset })
      offset += DOUBLE * (summed(meter.rule)?.doubles ?? 0)
    }
    return named
  }

  /** The sums of all meters; before those of each a number that says which it is. */
  private list(numberOf: (sums: Sums) => number): string {
    let list = ''
    for (const sums of this.sums.values()) {
      list += `${list === '' ? '' : ','}${numberOf(sums)},${sums.calls},${sums.opens}`
      for (const amount of sums.amounts) list += `,${amount}`
    }
    return list
  }

  private sumsOf(meter: MeterRef): Sums {
    const key = meter.keys[0] as string
    let sums = this.sums.get(key)
    if (sums === undefined) {
      let rule = this.rules.get(meter.rule)
      if (rule === undefined) {
        rule = this.rules.size + 1
        this.rules.set(meter.rule, rule)
      }
      const { units, active } = summed(meter.rule) as SummedRule
      sums = { meter, units, active, rule, amounts: units.map(() => 0), calls: 0, opens: 0 }
      this.sums.set(key, sums)
    }
    return sums
  }

  /** The entries of the ledger as `Ledger.create` reads them; '' where all calls are charged for good. */
  private entries(): string {
    const places = this.requests.findLastIndex(({ forGood }) => forGood !== true) + 1
    if (places === 0) return ''
    const units = COST_UNITS.filter((unit) => this.counted.includes(unit))
    let open = 0
    let alike = true
    let first = ''
    let all = ''
    for (let place = 0; place < places; place++) {
      const { costs, forGood } = this.requests[place] as AdmissionRequest
      let entry = forGood === true ? '0' : '1'
      for (const unit of units) entry += forGood === true ? ',0' : `,${costs[unit]}`
      if (forGood !== true) open++
      if (place === 0) first = entry
      alike &&= entry === first
      all += place === 0 ? entry : `,${entry}`
    }
    return `[[${units.map((unit) => UNIT_CODES[unit])}],${open},${places},[${alike ? first : all}]]`
  }
}

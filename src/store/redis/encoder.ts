import type { AdmissionRequest, CallRequest, MeterRef, Settlement } from '../../admission/request.js'
import { type ActualCosts, COST_UNITS, type Costs, type CostUnit } from '../../model/cost.js'
import type { ObservedLimits } from '../../model/upstream.js'
import type { CompiledRule } from '../../policy/compiled-rule.js'
import type { Keys } from '../../redis/keys.js'
import { strictnessOf, UNIT_CODES } from './protocol.js'
import { encodedRule, isSameRule } from './rule-encoder.js'

/** A call on its way into a batch: the places of its keys and meters, and what it costs. */
interface Entered {
  readonly request: AdmissionRequest
  readonly costs: ActualCosts
  readonly record: number
  readonly ledger: number
  readonly places: string
}

/**
 * Collects calls into the keys and the JSON of one script call: every rule, meter and ledger once, however many calls share it.
 *
 * A batch names a meter with the limits of one version of its rule. Rules change at run time, and limiters of one name may have different limits: a
 * call that meets a meter of the batch under other limits is refused by `add`, and starts the next batch.
 */
export class BatchEncoder {
  readonly keys: string[]
  /** The meters in the order they are numbered. */
  readonly meters: MeterRef[] = []
  private readonly rules = new Map<CompiledRule, number>()
  private readonly places = new Map<string, number>()
  private readonly ledgers = new Map<string, number>()
  private readonly calls: Entered[] = []
  private readonly ended: Entered[] = []
  /** Deadlines and longest waits: rare, so they are sent apart from the calls. */
  private waitBounds = ''
  private locks = ''
  private sender = ''
  private arrivals = ''
  private encodedRules = ''
  private encodedMeters = ''
  private counted: readonly CostUnit[] = []
  /** The units of the first call's rules, and whether any other call was resolved under other rules. */
  private resolvedUnder: readonly CostUnit[] = []
  private mixed = false

  /** @param nowMs about now: which borders of a calendar the scripts may need */
  constructor(
    private readonly names: Keys,
    private readonly nowMs: number,
  ) {
    this.keys = [...names.fixed]
  }

  /**
   * Adds a call, unless it clashes with the batch; returns whether it was added.
   * @param onItsWay whether it can be in line or woken, and so has a record of its own
   */
  add(request: AdmissionRequest, onItsWay: boolean): boolean {
    if (this.clashes(request)) return false
    if (this.calls.length === 0) this.resolvedUnder = request.counted
    else this.mixed ||= this.resolvedUnder !== request.counted
    this.force(request, onItsWay)
    return true
  }

  /** Adds a call; a meter that the batch has already keeps the limits it has there. */
  force(request: AdmissionRequest & Pick<CallRequest, 'lock' | 'arrivedMs'>, onItsWay: boolean): void {
    const count = this.calls.push(this.enter(request, request.costs, onItsWay))
    const { lock, arrivedMs } = request
    if (arrivedMs !== undefined) this.arrivals += `${this.arrivals === '' ? '' : ','}${count},${arrivedMs}`
    if (lock !== undefined) this.locks += `${this.locks === '' ? '' : ','}${count},${this.keys.push(lock.key)},${JSON.stringify(lock.token)}`
    const { deadline, maxWaitMs } = request.call
    if (deadline === undefined && maxWaitMs === undefined) return
    const deadlineMs = deadline === undefined ? 0 : new Date(deadline).getTime()
    this.waitBounds += `${this.waitBounds === '' ? '' : ','}${count},${deadlineMs},${maxWaitMs ?? 0}`
  }

  /** Adds a call that is settled: among the others, or before them. */
  settle({ request, actual }: Settlement, before: boolean): void {
    const entered = this.enter(request, actual, false)
    if (before) this.ended.push(entered)
    else this.calls.push(entered)
  }

  /** Names a meter though no call of the batch meets it. @returns its number */
  meet(meter: MeterRef): number {
    return this.placeOf(meter)
  }

  /** Says that the batch is one of starts: the how manieth of its worker. */
  numbered(sender: string, number: number): void {
    this.sender = `"sender":[${this.keys.push(this.names.sender(sender))},${number}],`
  }

  /** The batch as JSON, see `lua/lib/batch.lua`. */
  batch(): string {
    const units = COST_UNITS.filter((unit) => this.counted.includes(unit))
    const codes = units.map((unit) => UNIT_CODES[unit])
    const calls = `"calls":[${encode(this.calls, units)}],"heads":[${headsOf(this.calls)}]`
    const ended = `"ended":[${encode(this.ended, units)}],"endedHeads":[${headsOf(this.ended)}]`
    const waitBounds = this.waitBounds === '' ? '' : `"waitBounds":[${this.waitBounds}],`
    const locks = this.locks === '' ? '' : `"locks":[${this.locks}],`
    const arrivals = this.arrivals === '' ? '' : `"arrivals":[${this.arrivals}],`
    return `{"rules":[${this.encodedRules}],"units":[${codes}],"meters":[${this.encodedMeters}],${waitBounds}${arrivals}${locks}${this.sender}${calls},${ended}}`
  }

  /** The number of a line's meter, 0 where no call of the batch meets it. */
  meterOfLine(line: string): number {
    return this.meters.findIndex((meter) => meter.line === line) + 1
  }

  /** Whether the batch has a meter of the call already, under other limits. */
  private clashes({ meters, counted }: AdmissionRequest): boolean {
    // Calls that were resolved under the same rules share this list: nearly always all of a batch.
    if (this.calls.length === 0 || (!this.mixed && this.resolvedUnder === counted)) return false
    return meters.some(({ rule, keys }) => {
      const known = this.meters[(this.places.get(keys[0] as string) ?? 0) - 1]?.rule
      return known !== undefined && !isSameRule(known, rule, this.nowMs)
    })
  }

  private enter(request: AdmissionRequest, costs: ActualCosts | Costs, onItsWay: boolean): Entered {
    const { id, ledger, forGood, meters, counted } = request
    let places = ''
    for (const meter of meters) places += `,${this.placeOf(meter)}`
    // Under the rules of today these may be none of its meters.
    for (const key of request.held ?? []) if (!this.places.has(key)) this.keys.push(key)
    const record = onItsWay || (ledger === undefined && forGood !== true) ? this.keys.push(this.names.call(id)) : 0
    if (this.counted !== counted && counted.some((unit) => !this.counted.includes(unit))) {
      this.counted = this.counted.length === 0 ? counted : [...new Set([...this.counted, ...counted])]
    }
    return { request, costs, record, ledger: ledger === undefined ? 0 : this.ledgerIndex(ledger), places }
  }

  private placeOf(meter: MeterRef): number {
    const name = meter.keys[0] as string
    let place = this.places.get(name)
    if (place === undefined) {
      let rule = this.rules.get(meter.rule)
      if (rule === undefined) {
        rule = this.rules.size + 1
        this.rules.set(meter.rule, rule)
        this.encodedRules += `${rule === 1 ? '' : ','}${encodedRule(meter.rule, this.nowMs).quoted}`
      }
      place = this.meters.push(meter)
      this.places.set(name, place)
      this.encodedMeters += `${place === 1 ? '' : ','}${rule},${this.keys.length + 1}`
      this.keys.push(...meter.keys, meter.line)
    }
    return place
  }

  private ledgerIndex(ledger: string): number {
    let index = this.ledgers.get(ledger)
    if (index === undefined) {
      index = this.keys.push(this.names.ledger(ledger))
      this.ledgers.set(ledger, index)
    }
    return index
  }
}

/** What the calls cost in these units, and their meters. */
function encode(calls: readonly Entered[], units: readonly CostUnit[]): string {
  let encoded = ''
  for (const { request, costs, places } of calls) {
    let amounts = ''
    for (const unit of units) amounts += `,${costs[unit] ?? -1}`
    encoded += `${encoded === '' ? '' : ','}${request.meters.length}${amounts}${places}`
  }
  return encoded
}

/** What identifies the calls; '' where no call has an identity: limiters by key send none. */
function headsOf(calls: readonly Entered[]): string {
  if (calls.every(({ request, record, ledger }) => record === 0 && ledger === 0 && isAnonymous(request))) return ''
  return calls.map(headOf).join(',')
}

function isAnonymous({ id, token, call, strategy }: AdmissionRequest): boolean {
  return id === '' && token === '' && (call.priority ?? 0) === 0 && call.strategy === undefined && strategy === undefined
}

function headOf({ request, record, ledger }: Entered): string {
  const { id, token, call, meters } = request
  const strategy = request.strategy ?? call.strategy
  // In a shared ledger the token is a place. Only lines, records and slots know a call by its id.
  const start = ledger > 0 ? token : JSON.stringify(token)
  const name = record > 0 || ledger === 0 || meters.some(({ rule }) => rule.keyed.length > 0) ? JSON.stringify(id) : '""'
  return `${record},${start},${call.priority ?? 0},${strategy === undefined ? 0 : strictnessOf(strategy)},${name},${ledger}`
}

/** Units per ms, by the code of the unit; 0 where the limit or its window is not known. */
export function ratesOf(observed: ObservedLimits | null): number[] {
  return COST_UNITS.map((unit) => {
    const { limit = 0, windowMs = null } = observed?.[unit] ?? {}
    return windowMs === null ? 0 : limit / windowMs
  })
}

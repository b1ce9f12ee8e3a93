import type { AdmissionRequest, MeterRef, Settlement } from '../../admission/request.js'
import type { CompiledLimit } from '../../limits/compiled-limit.js'
import { type ActualCosts, COST_UNITS, type Costs, type CostUnit } from '../../model/cost.js'
import type { ObservedLimits } from '../../model/upstream.js'
import { type CompiledRule, NO_OPTIONS, type RuleOptions } from '../../policy/compiled-rule.js'
import type { Keys } from '../../redis/keys.js'
import { ALGORITHM_CODES, strictnessOf, UNIT_CODES, unitCodes } from './protocol.js'

/** The two numbers of a limit that scripts read besides its capacity, by its algorithm. */
function numbersOf({ algorithm, unit, rate, windowMs, offsetMs, leaseMs, recovery }: CompiledLimit): readonly [number, number] {
  switch (algorithm) {
    case 'token_bucket':
    case 'leaky_bucket':
      return [rate, 0]
    case 'fixed_window':
    case 'sliding_window':
    case 'sliding_log':
      return [windowMs, offsetMs]
    case 'concurrency':
      return [leaseMs, 0]
    case 'block':
      return [recovery?.everyMs ?? 0, recovery?.factor ?? 0]
    case 'learned':
      return [rate, UNIT_CODES[unit]]
    case 'pause':
      return [0, 0]
  }
}

function encodeLimit(limit: CompiledLimit, atMs: number): unknown[] {
  const { id, algorithm, unit, capacity, borders, recovery } = limit
  const most = algorithm === 'block' ? (recovery?.probeLeaseMs ?? 0) : capacity
  return [id, ALGORITHM_CODES[algorithm], UNIT_CODES[unit], most, ...numbersOf(limit), ...(borders === undefined ? [] : [borders(atMs)])]
}

function encodeRule({ priority, strategy, limits, active, options, degraded }: CompiledRule, atMs: number): string {
  const { maxWaitMs, maxWaiting, holdMs, maxDelayMs } = options
  const plain = degraded === null && (Object.keys(NO_OPTIONS) as (keyof RuleOptions)[]).every((name) => options[name] === NO_OPTIONS[name])
  const more = active === limits.length && plain ? [] : [active, [maxWaitMs, maxWaiting, holdMs, maxDelayMs, degraded === null ? 0 : 1]]
  // A string within the batch: the scripts recognise it as a whole, and parse it once.
  return JSON.stringify(JSON.stringify([priority, strictnessOf(strategy), limits.map((limit) => encodeLimit(limit, atMs)), ...more]))
}

const encodedRules = new WeakMap<CompiledRule, string>()

/** A rule as the scripts read it (see `lua/lib/batch.lua`), at a time: encoded once, but for the borders of a calendar. */
function encodedRule(rule: CompiledRule, atMs: number): string {
  let encoded = encodedRules.get(rule)
  if (encoded === undefined) {
    encoded = encodeRule(rule, atMs)
    if (rule.limits.every(({ borders }) => borders === undefined)) encodedRules.set(rule, encoded)
  }
  return encoded
}

/** Whether two rules of one name limit alike at a time. */
function same(one: CompiledRule, other: CompiledRule, atMs: number): boolean {
  return one === other || encodedRule(one, atMs) === encodedRule(other, atMs)
}

/** Blocks differ from agent to agent: each is a rule of its own. */
function nameOf({ rule, value }: MeterRef): string {
  return rule.kind === 'upstream' ? `${rule.name}/${value}` : rule.name
}

/**
 * Cuts calls that would travel together into runs, in their order, in which no rule stands in
 * two versions: a batch names each meter once, with the limits of one of them. Rules change at
 * run time, and limiters of one name may have different limits.
 */
export function alike<One extends AdmissionRequest>(requests: readonly One[], atMs: number): (readonly One[])[] {
  // Calls that were resolved under the same rules share this list: nearly always all of them.
  const counted = requests[0]?.counted
  if (requests.every((one) => one.counted === counted)) return [requests]
  const runs: One[][] = [[]]
  let rules = new Map<string, CompiledRule>()
  for (const one of requests) {
    if (one.meters.some((part) => !same(rules.get(nameOf(part)) ?? part.rule, part.rule, atMs))) {
      runs.push([])
      rules = new Map()
    }
    for (const part of one.meters) rules.set(nameOf(part), part.rule)
    ;(runs.at(-1) as One[]).push(one)
  }
  return runs
}

/** A call on its way into a batch: the places of its keys and meters, and what it costs. */
interface Entered {
  readonly request: AdmissionRequest
  readonly costs: ActualCosts
  readonly record: number
  readonly ledger: number
  readonly places: string
}

/** Collects what calls name into the keys and the JSON of one script call: every rule, meter and ledger once, whoever shares it. */
export class BatchEncoder {
  readonly keys: string[]
  /** The meters in the order they are numbered. */
  readonly parts: MeterRef[] = []
  private readonly names: Keys
  private readonly nowMs: number
  private readonly lines: boolean
  private readonly rules = new Map<CompiledRule, number>()
  private readonly meters = new Map<string, number>()
  private readonly ledgers = new Map<string, number>()
  private readonly calls: Entered[] = []
  private readonly ended: Entered[] = []
  /** Who does not wait for ever: rare, so it is said apart. */
  private patience = ''
  private encodedRules = ''
  private encodedMeters = ''
  private counted: readonly CostUnit[] = []

  /**
   * @param nowMs about now: which of a calendar's borders the scripts may need
   * @param lines whether the keys of the meters' lines go along: not needed while there is no line
   */
  constructor(names: Keys, nowMs: number, lines: boolean) {
    this.names = names
    this.nowMs = nowMs
    this.lines = lines
    this.keys = [...names.fixed]
  }

  /** A call that asks for room at its meters; `onItsWay` if it can be in line or woken, and so has a record of its own. */
  ask(request: AdmissionRequest, onItsWay: boolean): void {
    const count = this.calls.push(this.enter(request, request.costs, onItsWay))
    const { deadline, maxWaitMs } = request.call
    if (deadline === undefined && maxWaitMs === undefined) return
    const deadlineMs = deadline === undefined ? 0 : new Date(deadline).getTime()
    this.patience += `${this.patience === '' ? '' : ','}${count},${deadlineMs},${maxWaitMs ?? 0}`
  }

  /** A call that is settled, among those that ask (`ask`) or before them. */
  settle({ request, actual }: Settlement, before: boolean): void {
    const entered = this.enter(request, actual, false)
    if (before) this.ended.push(entered)
    else this.calls.push(entered)
  }

  /** The batch as JSON. */
  batch(): string {
    // Ascending, whoever named them first: a ledger keeps which units it counts, not their order.
    const units = unitCodes(this.counted)
    const calls = `"calls":[${encode(this.calls, units)}],"heads":[${headsOf(this.calls)}]`
    const ended = `"ended":[${encode(this.ended, units)}],"endedHeads":[${headsOf(this.ended)}]`
    const patience = this.patience === '' ? '' : `"patience":[${this.patience}],`
    return `{"lines":${this.lines ? 1 : 0},"rules":[${this.encodedRules}],"units":[${units}],"meters":[${this.encodedMeters}],${patience}${calls},${ended}}`
  }

  /** The number of a line's meter, 0 where no call of the batch meets it. */
  meterOfLine(line: string): number {
    return this.parts.findIndex((part) => part.line === line) + 1
  }

  private enter(request: AdmissionRequest, costs: ActualCosts | Costs, onItsWay: boolean): Entered {
    const { id, ledger, forGood, meters, counted } = request
    let places = ''
    for (const part of meters) places += `,${this.meterIndex(part)}`
    const record = onItsWay || (ledger === undefined && forGood !== true) ? this.keys.push(this.names.call(id)) : 0
    // Nearly always all calls were resolved under the same rules.
    if (this.counted !== counted && counted.some((unit) => !this.counted.includes(unit))) {
      this.counted = this.counted.length === 0 ? counted : [...new Set([...this.counted, ...counted])]
    }
    return { request, costs, record, ledger: ledger === undefined ? 0 : this.ledgerIndex(ledger), places }
  }

  private meterIndex(part: MeterRef): number {
    const name = part.keys[0] as string
    let index = this.meters.get(name)
    if (index === undefined) {
      let rule = this.rules.get(part.rule)
      if (rule === undefined) {
        rule = this.rules.size + 1
        this.rules.set(part.rule, rule)
        this.encodedRules += `${rule === 1 ? '' : ','}${encodedRule(part.rule, this.nowMs)}`
      }
      index = this.parts.push(part)
      this.meters.set(name, index)
      this.encodedMeters += `${index === 1 ? '' : ','}${rule},${this.keys.length + 1}`
      this.keys.push(...part.keys)
      if (this.lines) this.keys.push(part.line)
    }
    return index
  }

  private ledgerIndex(ledger: string): number {
    let index = this.ledgers.get(ledger)
    if (index === undefined) {
      index = this.keys.push(this.names.call(ledger))
      this.ledgers.set(ledger, index)
    }
    return index
  }
}

/** What the calls cost in these units, and their meters. */
function encode(calls: readonly Entered[], codes: readonly number[]): string {
  const units = codes.map((code) => COST_UNITS[code - 1] as CostUnit)
  let encoded = ''
  for (const { request, costs, places } of calls) {
    let amounts = ''
    for (const unit of units) amounts += `,${costs[unit] ?? -1}`
    encoded += `${encoded === '' ? '' : ','}${request.meters.length}${amounts}${places}`
  }
  return encoded
}

/** Who the calls are; nothing where none of them is anybody in particular, as those of a limiter. */
function headsOf(calls: readonly Entered[]): string {
  if (calls.every(({ request, record, ledger }) => record === 0 && ledger === 0 && isNobody(request))) return ''
  return calls.map(headOf).join(',')
}

function isNobody({ id, token, call, strategy }: AdmissionRequest): boolean {
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

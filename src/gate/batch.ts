import type { Keys } from '../redis/keys.js'
import type { CompiledRule } from '../rules/compile.js'
import type { Demand, DemandPart } from './demand.js'

/** One call of a batch, as the scripts read it (`lua/lib/demand.lua`). */
export interface BatchCall {
  /** Under which the call's record is kept, and by which it stands in line. */
  readonly id: string
  readonly demand: Demand
  /** Distinguishes one start of the call from the next; in a shared ledger the place of its entry. */
  readonly token: string
  readonly priority: number
  readonly strictness: number
  /** Whether it can be on its way, in line or woken: else it has no record of its own. */
  readonly onItsWay: boolean
  /** The ledger it shares with those it started with. */
  readonly ledger: string | undefined
  /** Override the demand's, where it is settled. */
  readonly requests?: number
  readonly tokens?: number
}

/** Collects what calls name into the keys and the JSON of one script call: every rule, meter and ledger once, whoever shares it. */
export class BatchEncoder {
  readonly keys: string[]
  /** The meters in the order they are numbered. */
  readonly parts: DemandPart[] = []
  private readonly names: Keys
  private readonly rules = new Map<CompiledRule, number>()
  private readonly meters = new Map<string, number>()
  private readonly ledgers = new Map<string, number>()
  private encodedRules = ''
  private encodedMeters = ''

  constructor(names: Keys) {
    this.names = names
    this.keys = [...names.fixed]
  }

  /** The calls as JSON. */
  calls(calls: readonly BatchCall[]): string {
    let encoded = ''
    for (const call of calls) {
      let places = ''
      for (const part of call.demand.parts) places += `,${this.meterIndex(part)}`
      const record = call.onItsWay || call.ledger === undefined ? this.keys.push(this.names.call(call.id)) : 0
      const ledger = call.ledger === undefined ? 0 : this.ledgerIndex(call.ledger)
      const cost = `${call.requests ?? call.demand.requests},${call.tokens ?? call.demand.tokens}`
      encoded += `${encoded === '' ? '' : ','}[${record},${JSON.stringify(call.token)},${call.priority},${cost},1,0,${call.strictness},${JSON.stringify(call.id)},${ledger}${places}]`
    }
    return `[${encoded}]`
  }

  /** The batch as JSON; what was given to `calls` before is in it. */
  batch(calls: string, ended = '[]'): string {
    return `{"rules":[${this.encodedRules}],"meters":[${this.encodedMeters}],"calls":${calls},"ended":${ended}}`
  }

  /** The number of a line's meter, 0 where no call of the batch meets it. */
  meterOfLine(line: string): number {
    return this.parts.findIndex(({ keys }) => keys[1] === line) + 1
  }

  private meterIndex(part: DemandPart): number {
    const name = part.keys[0] as string
    let index = this.meters.get(name)
    if (index === undefined) {
      let rule = this.rules.get(part.rule)
      if (rule === undefined) {
        rule = this.rules.size + 1
        this.rules.set(part.rule, rule)
        this.encodedRules += rule === 1 ? part.rule.encoded : `,${part.rule.encoded}`
      }
      index = this.parts.push(part)
      this.meters.set(name, index)
      this.encodedMeters += `${index === 1 ? '' : ','}[${rule},${this.keys.length + 1},${part.rule.hasLeases ? 1 : 0}]`
      this.keys.push(...part.keys)
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

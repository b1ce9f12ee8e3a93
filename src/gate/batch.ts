import type { Keys } from '../redis/keys.js'
import type { CompiledRule } from '../rules/compile.js'
import type { Asked, Settlement } from './asked.js'
import { type DemandPart, strictnessOf } from './demand.js'

/** Collects what calls name into the keys and the JSON of one script call: every rule, meter and ledger once, whoever shares it. */
export class BatchEncoder {
  readonly keys: string[]
  /** The meters in the order they are numbered. */
  readonly parts: DemandPart[] = []
  private readonly names: Keys
  private readonly rules = new Map<CompiledRule, number>()
  private readonly meters = new Map<string, number>()
  private readonly ledgers = new Map<string, number>()
  private calls = ''
  private ended = ''
  private encodedRules = ''
  private encodedMeters = ''

  constructor(names: Keys) {
    this.names = names
    this.keys = [...names.fixed]
  }

  /** A call that asks for its demand; `onItsWay` if it can be in line or woken, and so has a record of its own. */
  ask(asked: Asked, onItsWay: boolean): void {
    this.calls = this.add(this.calls, asked, onItsWay, asked.demand.requests, asked.demand.tokens)
  }

  /** A call that is settled, among those that ask (`ask`) or before them. A cost of -1 stays as estimated. */
  settle({ asked, actual }: Settlement, before: boolean): void {
    const requests = actual.requests ?? -1
    const tokens = actual.tokens ?? -1
    if (before) this.ended = this.add(this.ended, asked, false, requests, tokens)
    else this.calls = this.add(this.calls, asked, false, requests, tokens)
  }

  /** The batch as JSON. */
  batch(): string {
    return `{"rules":[${this.encodedRules}],"meters":[${this.encodedMeters}],"calls":[${this.calls}],"ended":[${this.ended}]}`
  }

  private add(to: string, { id, token, ledger, call, demand }: Asked, onItsWay: boolean, requests: number, tokens: number): string {
    let places = ''
    for (const part of demand.parts) places += `,${this.meterIndex(part)}`
    const record = onItsWay || ledger === undefined ? this.keys.push(this.names.call(id)) : 0
    const entry = ledger === undefined ? 0 : this.ledgerIndex(ledger)
    // In a shared ledger the token is a place. Only lines, records and slots know a call by its id.
    const start = ledger === undefined ? JSON.stringify(token) : token
    const name = record > 0 || demand.parts.some(({ rule }) => rule.hasLeases) ? JSON.stringify(id) : '""'
    const encoded = `${demand.parts.length},${record},${start},${call.priority ?? 0},${requests},${tokens},${strictnessOf(call.strategy)},${name},${entry}${places}`
    return to === '' ? encoded : `${to},${encoded}`
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
      this.encodedMeters += `${index === 1 ? '' : ','}${rule},${this.keys.length + 1},${part.rule.hasLeases ? 1 : 0}`
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

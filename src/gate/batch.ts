import type { Keys } from '../redis/keys.js'
import type { CompiledRule } from '../rules/compile.js'
import type { Demand, DemandPart } from './demand.js'

/** One call of a batch, as the scripts read it (`lua/lib/demand.lua`). */
export interface BatchCall {
  /** Under which the call's record is kept. */
  readonly id: string
  readonly demand: Demand
  /** Distinguishes one start of the call from the next. */
  readonly token: string
  readonly priority: number
  readonly strictness: number
  /** The ledger that the calls of one batch share, where nobody looks this one up by its id. */
  readonly sharedLedger?: string | undefined
  /** Override the demand's, where it is settled. */
  readonly requests?: number
  readonly tokens?: number
}

/** Puts calls into the form that scripts read: every rule and meter once, whoever shares it. */
export function encodeBatch(keys: Keys, calls: readonly BatchCall[]): { keys: string[]; encoded: string } {
  const allKeys = [...keys.fixed]
  const rules = new Map<CompiledRule, number>()
  const meters = new Map<string, number>()
  let encodedRules = ''
  let encodedMeters = ''
  let encodedCalls = ''
  const indexOf = (part: DemandPart): number => {
    const name = part.keys[0] as string
    let index = meters.get(name)
    if (index === undefined) {
      let rule = rules.get(part.rule)
      if (rule === undefined) {
        rule = rules.size + 1
        rules.set(part.rule, rule)
        encodedRules += rule === 1 ? part.rule.encoded : `,${part.rule.encoded}`
      }
      index = meters.size + 1
      meters.set(name, index)
      encodedMeters += `${index === 1 ? '' : ','}[${rule},${allKeys.length + 1},${part.rule.hasLeases ? 1 : 0}]`
      allKeys.push(...part.keys)
    }
    return index
  }
  const ledgers = new Map<string, number>()
  const sharedRecord = (ledger: string): number => {
    let index = ledgers.get(ledger)
    if (index === undefined) {
      index = allKeys.push(keys.call(ledger))
      ledgers.set(ledger, index)
    }
    return index
  }
  for (const call of calls) {
    let places = ''
    for (const part of call.demand.parts) places += `,${indexOf(part)}`
    const ledger = call.sharedLedger
    const record = ledger === undefined ? allKeys.push(keys.call(call.id)) : sharedRecord(ledger)
    const requests = call.requests ?? call.demand.requests
    const tokens = call.tokens ?? call.demand.tokens
    encodedCalls += `${encodedCalls === '' ? '' : ','}[${record},${JSON.stringify(call.token)},${call.priority},${requests},${tokens},${call.strictness},${JSON.stringify(call.id)},${ledger === undefined ? 0 : 1}${places}]`
  }
  return { keys: allKeys, encoded: `{"rules":[${encodedRules}],"meters":[${encodedMeters}],"calls":[${encodedCalls}]}` }
}

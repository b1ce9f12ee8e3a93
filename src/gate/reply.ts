import type { Binding, Decision, Usage } from '../decision.js'
import { ALGORITHMS } from '../meters/index.js'
import type { CompiledLimit } from '../rules/compile.js'
import type { Demand, DemandPart } from './demand.js'

const DOUBLE = 8
/** Doubles before the usage of a call: outcome, wait, binding meter, binding limit, rank. */
const HEAD = 5
const RUN = 0
const WAIT = 1
const REJECT = 2
const TOO_BIG = 3
const CLOSED = 4
const HOLD = 5
const REFUSED = 6

function usageOf(part: DemandPart, limit: CompiledLimit, used: number, claimed: number, atMs: number): Usage | null {
  if (limit.unit === 'none') return null
  const state = { used: Math.min(used, limit.capacity), debt: Math.max(0, used - limit.capacity) }
  return {
    rule: part.rule.name,
    limit: limit.name,
    scopeValue: part.value,
    unit: limit.unit,
    capacity: limit.capacity,
    used,
    claimed,
    remaining: Math.max(0, limit.capacity - used - claimed),
    resetMs: ALGORITHMS[limit.algorithm].resetMs(state, limit, atMs),
  }
}

function bindingOf(demand: Demand, meter: number, limit: number): Binding | null {
  const part = demand.parts[meter - 1]
  const bound = part?.rule.limits[limit - 1]
  if (part === undefined || bound === undefined) return null
  return { rule: part.rule.name, limit: bound.name, scopeValue: part.value, unit: bound.unit }
}

/** Reads the packed reply of admit and peek: one decision per demand, in order. Usage is worked out when it is asked for. */
export function readReply(reply: Buffer, demands: readonly Demand[]): Decision[] {
  const atMs = reply.readDoubleLE(0)
  let offset = DOUBLE
  return demands.map((demand) => {
    const head = offset
    const read = (index: number) => reply.readDoubleLE(head + index * DOUBLE)
    let limits = 0
    for (const part of demand.parts) limits += part.rule.limits.length
    offset += (HEAD + 2 * limits) * DOUBLE
    let usage: Usage[] | undefined
    return decisionOf(read, demand, {
      atMs,
      get usage() {
        if (usage === undefined) {
          usage = []
          let at = HEAD
          for (const part of demand.parts) {
            for (const limit of part.rule.limits) {
              const one = usageOf(part, limit, read(at), read(at + 1), atMs)
              if (one !== null) usage.push(one)
              at += 2
            }
          }
        }
        return usage
      },
    })
  })
}

function decisionOf(read: (index: number) => number, demand: Demand, base: { readonly atMs: number; readonly usage: readonly Usage[] }): Decision {
  const outcome = read(0)
  const waitMs = read(1)
  if (outcome === RUN) return Object.assign(base, { outcome: 'run' as const })
  if (outcome === HOLD) return Object.assign(base, { outcome: 'hold' as const, waitMs })
  const binding = bindingOf(demand, read(2), read(3))
  const knownMs = binding?.unit === 'concurrency' ? null : waitMs
  switch (outcome) {
    case WAIT:
      return Object.assign(base, { outcome: 'wait' as const, etaMs: knownMs, position: read(4), binding })
    case REJECT:
    case REFUSED:
    case TOO_BIG:
    case CLOSED: {
      if (binding === null) throw new Error(`reply of a script names no limit for outcome ${outcome}`)
      const reason = outcome === TOO_BIG ? ('too_big' as const) : outcome === CLOSED ? ('closed' as const) : ('limited' as const)
      return Object.assign(base, { outcome: 'reject' as const, reason, retryAfterMs: reason === 'limited' ? knownMs : null, binding })
    }
    default:
      throw new Error(`reply of a script has the unknown outcome ${outcome}`)
  }
}

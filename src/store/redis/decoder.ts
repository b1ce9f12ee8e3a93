import { bindingOf, type MeterRef, type ResolvedMeters } from '../../admission/request.js'
import { emptyState } from '../../limits/algorithm.js'
import { ALGORITHMS } from '../../limits/algorithms.js'
import type { CompiledLimit } from '../../limits/compiled-limit.js'
import type { Strategy } from '../../model/call.js'
import type { Binding, Decision, RejectDecision, Usage } from '../../model/decision.js'
import type { UpstreamStatus } from '../../model/upstream.js'
import type { CompiledRule } from '../../policy/compiled-rule.js'
import { OUTCOMES, strategyOf } from './protocol.js'

/** A start that has to stand in line, but came without the call to keep beside its place: it is asked again with it. */
export interface AgainDecision {
  readonly outcome: 'again'
}

const DOUBLE = 8
/** Doubles per call besides its outcome, where it neither runs nor is asked again: wait, binding meter, binding limit, rank, strictness. */
const DETAILS = 5
const { RUN, WAIT, REJECT, TOO_BIG, CLOSED, HOLD, REFUSED, AGAIN, SLOWED, LATE, EXPIRED, FULL, WATCHED } = OUTCOMES
const REASONS: Readonly<Record<number, RejectDecision['reason']>> = {
  [REJECT]: 'limited',
  [REFUSED]: 'limited',
  [TOO_BIG]: 'too_big',
  [CLOSED]: 'closed',
  [LATE]: 'late',
  [FULL]: 'line_full',
}
const LINES_NEEDED = 2

/** @param resetMs as the script told it; else worked out */
function decodedUsage(part: MeterRef, limit: CompiledLimit, used: number, claimed: number, resetMs: number | undefined, atMs: number): Usage | null {
  if (limit.unit === 'none' || limit.algorithm === 'learned') return null
  const algorithm = ALGORITHMS[limit.algorithm]
  const state = { ...emptyState(), used: Math.min(used, limit.capacity), debt: Math.max(0, used - limit.capacity) }
  return {
    rule: part.rule.name,
    limit: limit.name,
    scopeValue: part.value,
    unit: limit.unit,
    capacity: limit.capacity,
    used,
    claimed,
    remaining: algorithm.remaining(used + claimed, limit),
    resetMs: resetMs ?? algorithm.resetMs(state, limit, atMs),
  }
}

/** A meter as the first call of the batch that meets it named it: another may have made its own part, or have resolved it under other rules. */
interface NamedMeter {
  readonly part: MeterRef
  readonly offset: number
}

/** How many doubles of a reply tell of a limit. */
function doublesOf({ algorithm }: CompiledLimit): number {
  // Limits mirrored beside a block are its own business.
  if (algorithm === 'learned') return 0
  return ALGORITHMS[algorithm].tellsReset ? 3 : 2
}

/** The packed reply of admit and peek: one decision per call, and the usage of every meter, worked out when it is asked for. */
export class DecisionReply {
  readonly atMs: number
  /** Whether there are lines. */
  readonly lines: boolean
  /** Whether anything was decided: else the batch is to come again, with its lines. */
  readonly done: boolean
  private readonly bytes: Buffer
  /** Where each call begins. */
  private readonly heads: number[] = []
  /** The meters as the batch named them, by key, and where the usage of each begins. */
  private readonly meters = new Map<string, NamedMeter>()

  constructor(bytes: Buffer, calls: number, meters: readonly MeterRef[]) {
    this.bytes = bytes
    this.atMs = bytes.readDoubleLE(0)
    const lines = bytes.readDoubleLE(DOUBLE)
    this.lines = lines > 0
    this.done = lines !== LINES_NEEDED
    if (!this.done) return
    let offset = 2 * DOUBLE
    for (let call = 0; call < calls; call++) {
      this.heads.push(offset)
      const outcome = bytes.readDoubleLE(offset)
      offset += (outcome === RUN || outcome === WATCHED || outcome === AGAIN ? 1 : 1 + DETAILS) * DOUBLE
    }
    for (const part of meters) {
      this.meters.set(part.keys[0] as string, { part, offset })
      for (const limit of part.rule.limits) offset += doublesOf(limit) * DOUBLE
    }
  }

  /** @param own the strategy that the call asked for itself */
  decision(index: number, request: ResolvedMeters, own?: Strategy): Decision | AgainDecision {
    const head = this.heads[index] as number
    const outcome = this.bytes.readDoubleLE(head)
    if (outcome === RUN) return new ReadDecision('run', this, request)
    if (outcome === WATCHED) return Object.assign(new ReadDecision('run' as const, this, request), { watched: true as const })
    if (outcome === AGAIN) return { outcome: 'again' }
    const waitMs = this.bytes.readDoubleLE(head + DOUBLE)
    if (outcome === HOLD) return Object.assign(new ReadDecision('hold' as const, this, request), { waitMs })
    if (outcome === EXPIRED) return new ReadDecision('expired', this, request)
    if (outcome === SLOWED) return Object.assign(new ReadDecision('run' as const, this, request), { delayMs: waitMs })
    const binding = this.bindingOf(request, this.bytes.readDoubleLE(head + 2 * DOUBLE), this.bytes.readDoubleLE(head + 3 * DOUBLE))
    const paused = binding !== null && binding.kind === 'pause'
    const knownMs = waitMs < 0 ? null : waitMs
    if (outcome === WAIT) {
      return Object.assign(new ReadDecision('wait' as const, this, request), { etaMs: knownMs, position: this.bytes.readDoubleLE(head + 4 * DOUBLE), binding })
    }
    const reason = paused && REASONS[outcome] === 'limited' ? 'paused' : REASONS[outcome]
    if (reason === undefined || binding === null) throw new Error(`the reply of a script makes no sense: outcome ${outcome}`)
    const strictness = this.bytes.readDoubleLE(head + 5 * DOUBLE)
    const custom = own?.startsWith('custom:') === true ? own : this.ruleOf(request, head)?.strategy
    const strategy = strictness === 0 ? undefined : (strategyOf(strictness) ?? custom)
    return Object.assign(new ReadDecision('reject' as const, this, request), {
      reason,
      retryAfterMs: reason === 'limited' && strategy !== 'hard' ? knownMs : null,
      binding,
      ...(strategy === undefined ? {} : { strategy }),
      ...(reason === 'late' ? { etaMs: waitMs } : {}),
      ...(reason === 'line_full' ? { waiting: this.bytes.readDoubleLE(head + 4 * DOUBLE) } : {}),
    })
  }

  usage(request: ResolvedMeters): Usage[] {
    const usage: Usage[] = []
    for (const meter of request.meters) {
      const named = this.meters.get(meter.keys[0] as string) as NamedMeter
      const { part } = named
      let { offset } = named
      const { limits, active } = part.rule
      for (let n = 0; n < active; n++) {
        const limit = limits[n] as CompiledLimit
        const size = doublesOf(limit)
        if (size === 0) continue
        const resetMs = size > 2 ? this.bytes.readDoubleLE(offset + 2 * DOUBLE) : undefined
        const one = decodedUsage(part, limit, this.bytes.readDoubleLE(offset), this.bytes.readDoubleLE(offset + DOUBLE), resetMs, this.atMs)
        if (one !== null) usage.push(one)
        offset += size * DOUBLE
      }
    }
    return usage
  }

  private ruleOf(request: ResolvedMeters, head: number): CompiledRule | undefined {
    return request.meters[this.bytes.readDoubleLE(head + 2 * DOUBLE) - 1]?.rule
  }

  private bindingOf(request: ResolvedMeters, meter: number, limit: number): Binding | null {
    const asked = request.meters[meter - 1]
    const part = asked && this.meters.get(asked.keys[0] as string)?.part
    const bound = part?.rule.limits[limit - 1]
    return part === undefined || bound === undefined ? null : bindingOf(part, bound)
  }
}

/** What all decisions have in common; usage is worked out once, when it is asked for. */
class ReadDecision<Outcome extends Decision['outcome']> {
  readonly outcome: Outcome
  readonly atMs: number
  readonly #reply: DecisionReply
  readonly #request: ResolvedMeters
  #usage: readonly Usage[] | undefined

  constructor(outcome: Outcome, reply: DecisionReply, request: ResolvedMeters) {
    this.outcome = outcome
    this.atMs = reply.atMs
    this.#reply = reply
    this.#request = request
  }

  get usage(): readonly Usage[] {
    this.#usage ??= this.#reply.usage(this.#request)
    return this.#usage
  }

  /** For logs and the command line: usage is a getter, which JSON would leave out. */
  toJSON(): object {
    return { ...this, usage: this.usage }
  }
}

/** As `lua/lib/canary.lua` tells it. */
export function readUpstreamStatus(told: readonly string[]): UpstreamStatus {
  const [atMs = 0, blockedUntilMs = 0, factor = 1, sinceMs = 0, cutAtMs = 0, overMs = 0, canary = 0] = told.map(Number)
  return { atMs, blockedUntilMs, factor, sinceMs, cutAtMs, overMs, canary: canary === 1 }
}

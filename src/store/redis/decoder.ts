import { bindingOf, gateBinding, type MeterRef, type ResolvedMeters, usageOf } from '../../admission/request.js'
import { emptyState } from '../../limits/algorithm.js'
import { ALGORITHMS } from '../../limits/algorithms.js'
import type { CompiledLimit } from '../../limits/compiled-limit.js'
import type { Strategy } from '../../model/call.js'
import type { Binding, Decision, RejectDecision, RunDecision, Usage } from '../../model/decision.js'
import type { UpstreamStatus } from '../../model/upstream.js'
import { reasonOf, type WaitReason } from '../../model/wait-reason.js'
import { DETAIL, OUTCOME, type OutcomeCode, strategyOf } from './protocol.js'

/**
 * An answer that its sender deals with by itself. again: a start that has to stand in line, but was sent without the call to keep beside its place, or
 * whose batch came late, is sent again. lost: the job is not this worker's any more. taken: the id is that of another call. joined: the job of the call
 * exists already.
 */
export interface BareDecision {
  readonly outcome: 'again' | 'lost' | 'taken' | 'joined'
}

const BARE_OUTCOMES: ReadonlySet<string> = new Set<BareDecision['outcome']>(['again', 'lost', 'taken', 'joined'])

export function isBare(decision: Decision | BareDecision): decision is BareDecision {
  return BARE_OUTCOMES.has(decision.outcome)
}

export const DOUBLE = 8
const DETAILS = Object.keys(DETAIL).length
/** The outcomes of which nothing else is said. */
const BARE: ReadonlySet<number> = new Set([OUTCOME.RUN, OUTCOME.WATCHED, OUTCOME.AGAIN, OUTCOME.LOST, OUTCOME.TAKEN, OUTCOME.JOINED])

/** Ms until a limit is unused again, where the script did not answer it: it follows from what is used. */
function resetMsOf(limit: CompiledLimit, used: number, atMs: number): number {
  const state = { ...emptyState(), used: Math.min(used, limit.capacity), debt: Math.max(0, used - limit.capacity) }
  return ALGORITHMS[limit.algorithm].resetMs(state, limit, atMs)
}

/** A meter as the batch names it (a later call of the batch may have made a MeterRef of its own for it), and where its usage begins in the reply. */
export type NamedMeter = Readonly<{ meter: MeterRef; offset: number }>

/** How many doubles a reply has of a limit: `add_meter` in `lua/lib/reply.lua`. */
export function doublesOf({ algorithm }: CompiledLimit): number {
  return ALGORITHMS[algorithm].resetInReply ? 3 : 2
}

function usageIn(bytes: Buffer, atMs: number, named: ReadonlyMap<string, NamedMeter>, { meters }: ResolvedMeters): Usage[] {
  const usage: Usage[] = []
  for (const { keys, rule } of meters) {
    if (rule.active === 0) continue
    const { meter, offset: first } = named.get(keys[0] as string) as NamedMeter
    const { limits, active } = meter.rule
    let offset = first
    for (let n = 0; n < active; n++) {
      const limit = limits[n] as CompiledLimit
      const size = doublesOf(limit)
      const used = bytes.readDoubleLE(offset)
      const resetMs = size > 2 ? bytes.readDoubleLE(offset + 2 * DOUBLE) : resetMsOf(limit, used, atMs)
      usage.push(usageOf(meter, limit, { used, claimed: bytes.readDoubleLE(offset + DOUBLE), resetMs }))
      offset += size * DOUBLE
    }
  }
  return usage
}

/** The packed reply to a batch (`lua/lib/reply.lua`): one decision per call, and the usage of every meter. */
export class DecisionReply implements UsageReply {
  readonly atMs: number
  /** Where each call begins. */
  private readonly heads: number[] = []
  private readonly named = new Map<string, NamedMeter>()

  constructor(
    private readonly bytes: Buffer,
    calls: number,
    meters: readonly MeterRef[],
  ) {
    this.atMs = bytes.readDoubleLE(0)
    let offset = DOUBLE
    for (let call = 0; call < calls; call++) {
      this.heads.push(offset)
      const outcome = bytes.readDoubleLE(offset)
      offset += (BARE.has(outcome) ? 1 : 1 + DETAILS) * DOUBLE
    }
    for (const meter of meters) {
      this.named.set(meter.keys[0] as string, { meter, offset })
      for (const limit of meter.rule.limits) offset += doublesOf(limit) * DOUBLE
    }
  }

  /** @param own the strategy that the call asks for itself */
  decision(index: number, request: ResolvedMeters, own?: Strategy): Decision | BareDecision {
    const head = this.heads[index] as number
    const outcome = this.bytes.readDoubleLE(head) as OutcomeCode
    switch (outcome) {
      case OUTCOME.RUN:
        return new ReadDecision('run', this, request)
      case OUTCOME.WATCHED:
        return Object.assign(new ReadDecision('run' as const, this, request), { watched: true as const })
      case OUTCOME.SLOWED:
        return Object.assign(new ReadDecision('run' as const, this, request), { delayMs: this.detail(head, DETAIL.WAIT) })
      case OUTCOME.HOLD:
        return Object.assign(new ReadDecision('hold' as const, this, request), { waitMs: this.detail(head, DETAIL.WAIT) })
      case OUTCOME.AGAIN:
        return { outcome: 'again' }
      case OUTCOME.LOST:
        return { outcome: 'lost' }
      case OUTCOME.TAKEN:
        return { outcome: 'taken' }
      case OUTCOME.JOINED:
        return { outcome: 'joined' }
      case OUTCOME.EXPIRED:
        return new ReadDecision('expired', this, request)
      case OUTCOME.WAIT:
        return Object.assign(new ReadDecision('wait' as const, this, request), {
          etaMs: this.knownMs(head, DETAIL.WAIT),
          etaMaxMs: this.knownMs(head, DETAIL.MOST),
          position: this.detail(head, DETAIL.RANK),
          binding: this.bindingOf(request, head),
          waitsFor: this.waitReasonOf(request, head),
        })
      case OUTCOME.REJECT:
      case OUTCOME.REFUSED:
        return this.limited(head, request, own)
      case OUTCOME.TOO_BIG:
        return this.rejected('too_big', head, request)
      case OUTCOME.CLOSED:
        return this.rejected('closed', head, request)
      case OUTCOME.LATE:
        return Object.assign(this.rejected('late', head, request), { etaMs: this.detail(head, DETAIL.WAIT) })
      case OUTCOME.LINE_FULL:
        return Object.assign(this.rejected('line_full', head, request), { waiting: this.detail(head, DETAIL.RANK) })
      default:
        throw new Error(`a script answered the outcome ${outcome satisfies never}, which is none`)
    }
  }

  usage(request: ResolvedMeters): Usage[] {
    return usageIn(this.bytes, this.atMs, this.named, request)
  }

  /** Refused for want of room, or by a pause; the time of the next try is not told where the strategy is hard. */
  private limited(head: number, request: ResolvedMeters, own: Strategy | undefined): RejectDecision {
    const strictness = this.detail(head, DETAIL.STRICTNESS)
    const custom = own?.startsWith('custom:') === true ? own : request.meters[this.detail(head, DETAIL.METER) - 1]?.rule.strategy
    const strategy = strictness === 0 ? undefined : (strategyOf(strictness) ?? custom)
    const paused = this.bindingOf(request, head)?.kind === 'pause'
    return Object.assign(this.rejected(paused ? 'paused' : 'limited', head, request), {
      retryAfterMs: paused || strategy === 'hard' ? null : this.knownMs(head, DETAIL.WAIT),
      ...(strategy === undefined ? {} : { strategy }),
    })
  }

  private rejected<Reason extends RejectDecision['reason']>(reason: Reason, head: number, request: ResolvedMeters) {
    const binding = this.bindingOf(request, head)
    if (binding === null) throw new Error(`a script answered ${reason}, and nothing that binds the call`)
    return Object.assign(new ReadDecision('reject' as const, this, request), { reason, retryAfterMs: null, binding })
  }

  /** The nth double after the outcome of the call that begins at `head`. */
  private detail(head: number, n: number): number {
    return this.bytes.readDoubleLE(head + n * DOUBLE)
  }

  private knownMs(head: number, n: number): number | null {
    const waitMs = this.detail(head, n)
    return waitMs < 0 ? null : waitMs
  }

  private meterOf({ meters }: ResolvedMeters, head: number): MeterRef | undefined {
    const key = meters[this.detail(head, DETAIL.METER) - 1]?.keys[0]
    return key === undefined ? undefined : this.named.get(key)?.meter
  }

  /** A call that no meter binds stands in the line of its queue; one that was enqueued again is answered without what binds it, and a wait of 0. */
  private waitReasonOf(request: ResolvedMeters, head: number): WaitReason | null {
    const binding = this.bindingOf(request, head)
    if (binding === null) return this.knownMs(head, DETAIL.WAIT) === null ? 'NO_WORKER' : null
    return reasonOf(binding, this.meterOf(request, head)?.rule.limits[this.detail(head, DETAIL.LIMIT) - 1]?.windowMs)
  }

  private bindingOf(request: ResolvedMeters, head: number): Binding | null {
    const meter = this.meterOf(request, head)
    if (meter === undefined) return null
    const place = this.detail(head, DETAIL.LIMIT)
    if (place === 0) return gateBinding(meter)
    const limit = (meter.rule.recovery?.mirrored ?? meter.rule.limits)[place - 1]
    return limit === undefined ? null : bindingOf(meter, limit)
  }
}

/** The packed reply to a batch all of whose calls start (`lua/check-sums.lua`): the usage of every meter. */
export class SumsReply implements UsageReply {
  readonly atMs: number
  #named: ReadonlyMap<string, NamedMeter> | undefined

  /** @param named says where the usage of each meter is */
  constructor(
    private readonly bytes: Buffer,
    private readonly named: () => ReadonlyMap<string, NamedMeter>,
  ) {
    this.atMs = bytes.readDoubleLE(0)
  }

  run(request: ResolvedMeters): RunDecision {
    return new ReadDecision('run', this, request)
  }

  usage(request: ResolvedMeters): Usage[] {
    this.#named ??= this.named()
    return usageIn(this.bytes, this.atMs, this.#named, request)
  }
}

/** A reply as the decisions that it brings read it. */
interface UsageReply {
  readonly atMs: number
  usage(request: ResolvedMeters): Usage[]
}

/** What all decisions have in common. Usage is worked out when it is read first, since most callers never do. */
class ReadDecision<Outcome extends Decision['outcome']> {
  readonly atMs: number
  readonly #reply: UsageReply
  readonly #request: ResolvedMeters
  #usage: readonly Usage[] | undefined

  constructor(
    readonly outcome: Outcome,
    reply: UsageReply,
    request: ResolvedMeters,
  ) {
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

/** Reads what `Upstream.status` in `lua/lib/upstream.lua` answers. */
export function readUpstreamStatus(told: readonly string[]): UpstreamStatus {
  const [atMs = 0, blockedUntilMs = 0, factor = 1, sinceMs = 0, cutAtMs = 0, overMs = 0, canary = 0] = told.map(Number)
  return { atMs, blockedUntilMs, factor, sinceMs, cutAtMs, overMs, canary: canary === 1 }
}

import { type AdmissionRequest, costIn, type MeterRef } from '../../admission/request.js'
import type { MeterState, RecoveryNumbers } from '../../limits/algorithm.js'
import { endedCanary, factorAt, noteObserved, paused, refused, SAID, saidOf, startedCanary } from '../../limits/algorithms/block.js'
import { chargeLearned, emptied } from '../../limits/algorithms/learned.js'
import type { CompiledLimit } from '../../limits/compiled-limit.js'
import {
  OBSERVED_AT_MOST,
  type Observation,
  openUpstream,
  type UpstreamOutcome,
  type UpstreamReport,
  type UpstreamStatus,
  upstreamKey,
} from '../../model/upstream.js'
import { ratesOf } from '../redis/encoder.js'
import type { MemoryMeter } from './memory-meter.js'

/** What a block's meter holds, as it is looked at. */
interface Looked {
  readonly meter: MemoryMeter
  readonly states: readonly MeterState[]
  readonly limits: readonly CompiledLimit[]
  readonly block: MeterState
  readonly recovery: RecoveryNumbers
}

/** What agents have said, in the memory of a process: the twin of `lua/lib/upstream.lua`. */
export class MemoryBlocks {
  private readonly meterOf: (part: MeterRef, nowMs: number) => MemoryMeter
  private readonly observations = new Map<string, Observation>()

  constructor(meterOf: (part: MeterRef, nowMs: number) => MemoryMeter) {
    this.meterOf = meterOf
  }

  /** @param startedMs when the call started that was refused */
  reportUpstream(
    request: AdmissionRequest,
    { kind, retryAfterMs, reduceFactor, observed, name }: UpstreamReport,
    startedMs: number,
    nowMs: number,
  ): UpstreamOutcome {
    const looked = this.look(request, nowMs)
    if (looked === null) return { ...openUpstream(nowMs), cut: false }
    if (observed !== null || kind === 'refused') this.observe({ name, limits: observed ?? {}, atMs: nowMs }, observed !== null)
    const { block, recovery, meter } = looked
    let cut = false
    if (kind === 'refused') {
      cut = refused(block, recovery, nowMs, nowMs + retryAfterMs, startedMs, reduceFactor)
      this.empty(looked, block.history?.[SAID.until] as number)
    } else if (kind === 'paused') paused(block, nowMs + retryAfterMs)
    noteObserved(block, ratesOf(observed))
    meter.keep()
    return { ...this.upstreamStatus(request, nowMs), cut }
  }

  upstreamStatus(request: AdmissionRequest, nowMs: number): UpstreamStatus {
    const looked = this.look(request, nowMs)
    const history = looked?.block.history ?? null
    if (looked === null || history === null || looked.block.used === 0) return openUpstream(nowMs)
    const said = (place: number) => history[place] as number
    return {
      atMs: nowMs,
      blockedUntilMs: said(SAID.until),
      factor: factorAt(saidOf(history, looked.recovery), nowMs),
      sinceMs: said(SAID.since),
      cutAtMs: said(SAID.cutAt),
      overMs: looked.block.used,
      canary: said(SAID.since) === 0,
    }
  }

  observed(): readonly Observation[] {
    return [...this.observations.values()]
  }

  /** A call starts while what was said matters: as the canary, or at the cost of the mirrored limits. */
  start(request: AdmissionRequest, nowMs: number): void {
    const looked = this.said(request, nowMs)
    if (looked === null) return
    const { block, recovery, limits, states, meter } = looked
    if (!startedCanary(block, recovery, nowMs)) {
      for (let n = 1; n < limits.length; n++) {
        const one = limits[n] as CompiledLimit
        chargeLearned(states[n] as MeterState, one, costIn(request.costs, one.unit), nowMs)
      }
    }
    meter.keep()
  }

  /** @param passed false where the call was not made */
  end(request: AdmissionRequest, startedMs: number, nowMs: number, passed: boolean): void {
    const looked = this.said(request, nowMs)
    if (looked === null || !endedCanary(looked.block, looked.recovery, startedMs, nowMs, passed)) return
    if (passed && looked.block.history?.[SAID.since] !== 0) this.empty(looked, nowMs)
    looked.meter.keep()
  }

  private empty({ limits, states, block }: Looked, atMs: number): void {
    for (let n = 1; n < limits.length; n++) {
      const state = states[n] as MeterState
      state.history = block.history
      emptied(state, limits[n] as CompiledLimit, atMs)
    }
  }

  private said(request: AdmissionRequest, nowMs: number): Looked | null {
    const looked = this.look(request, nowMs)
    return looked === null || looked.block.used === 0 ? null : looked
  }

  private look({ meters }: AdmissionRequest, nowMs: number): Looked | null {
    const part = meters.at(-1)
    if (part?.rule.kind !== 'upstream') return null
    const meter = this.meterOf(part, nowMs)
    const states = meter.look(part.rule, nowMs)
    const { limits } = part.rule
    return { meter, states, limits, block: states[0] as MeterState, recovery: limits[0]?.recovery as RecoveryNumbers }
  }

  private observe(observation: Observation, said: boolean): void {
    const key = upstreamKey(observation.name)
    const has = this.observations.has(key)
    if (has ? said : this.observations.size < OBSERVED_AT_MOST) this.observations.set(key, observation)
  }
}

/** How many of a meter's limits there is anything to ask of: none of a block whose agent has said nothing. */
export function limitsMet({ rule }: MeterRef, states: readonly MeterState[]): number {
  return rule.kind === 'upstream' && states[0]?.used === 0 ? 0 : rule.limits.length
}

import { DEFAULTS } from '../../model/defaults.js'
import {
  OBSERVED_AT_MOST,
  type Observation,
  openUpstream,
  type UpstreamOutcome,
  type UpstreamReport,
  type UpstreamStatus,
  upstreamKey,
} from '../../model/upstream.js'

/** Blocks are swept when there are so many of them, and again when twice as many are left. */
const SWEEP_FROM = 1000

interface Block {
  readonly untilMs: number
  /** When it was reported last. */
  readonly atMs: number
}

/**
 * What agents have said, in the memory of one process: a block with an end. What an agent allows is
 * learned by a fleet in Redis (`lua/lib/upstream.lua`); one process without lines has its own limits,
 * and a factor would only refuse calls that its agent takes.
 */
export class MemoryUpstream {
  /** By what a block is counted by: agent, endpoint and model. */
  private readonly blocks = new Map<string, Block>()
  private readonly observations = new Map<string, Observation>()
  private sweepAt = SWEEP_FROM

  /** Ms until the block ends; 0 = there is none. */
  blockedMs(value: string, nowMs: number): number {
    return Math.max(0, this.endOf(value, nowMs) - nowMs)
  }

  /** Takes a clock that was set back by more than a step as it is: the block is as long from now as it was. */
  follow(value: string, nowMs: number): void {
    const atMs = this.blocks.get(value)?.atMs ?? 0
    if (atMs > nowMs + DEFAULTS.clockStepMs) this.blocks.set(value, { untilMs: this.endOf(value, nowMs), atMs: nowMs })
  }

  /** A shorter block never shortens a longer one. */
  report(value: string, { kind, retryAfterMs, observed, name }: UpstreamReport, nowMs: number): UpstreamOutcome {
    if (observed !== null || kind === 'refused') this.observe({ name, limits: observed ?? {}, atMs: nowMs }, observed !== null)
    if (kind !== 'observed' && retryAfterMs > 0) {
      this.blocks.set(value, { untilMs: Math.max(this.endOf(value, nowMs), nowMs + retryAfterMs), atMs: nowMs })
      if (this.blocks.size >= this.sweepAt) this.sweep(nowMs)
    }
    return { ...this.status(value, nowMs), cut: false }
  }

  status(value: string, nowMs: number): UpstreamStatus {
    const untilMs = this.endOf(value, nowMs)
    return untilMs <= nowMs ? openUpstream(nowMs) : { ...openUpstream(nowMs), blockedUntilMs: untilMs, sinceMs: untilMs, overMs: untilMs }
  }

  /** Forgets the block. */
  lift(value: string): void {
    this.blocks.delete(value)
  }

  observed(): readonly Observation[] {
    return [...this.observations.values()]
  }

  private endOf(value: string, nowMs: number): number {
    const block = this.blocks.get(value)
    if (block === undefined) return 0
    return block.atMs > nowMs + DEFAULTS.clockStepMs ? block.untilMs - (block.atMs - nowMs) : block.untilMs
  }

  private sweep(nowMs: number): void {
    for (const value of this.blocks.keys()) if (this.endOf(value, nowMs) <= nowMs) this.blocks.delete(value)
    this.sweepAt = Math.max(SWEEP_FROM, 2 * this.blocks.size)
  }

  private observe(observation: Observation, told: boolean): void {
    const key = upstreamKey(observation.name)
    const has = this.observations.has(key)
    if (has ? told : this.observations.size < OBSERVED_AT_MOST) this.observations.set(key, observation)
  }
}

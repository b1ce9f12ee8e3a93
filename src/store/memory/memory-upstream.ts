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
import { SweptMap } from './swept-map.js'

interface Block {
  readonly untilMs: number
  /** When it was reported last. */
  readonly atMs: number
}

/** When a block ends; 0 where there is none. After a clock that was set back by more than a step it is as long from now as it was. */
function blockEndMs(block: Block | undefined, nowMs: number): number {
  if (block === undefined) return 0
  return block.atMs > nowMs + DEFAULTS.clockStepMs ? block.untilMs - (block.atMs - nowMs) : block.untilMs
}

/**
 * What agents have said, in the memory of one process: a block with an end. What an agent allows is learned by a fleet in Redis
 * (`lua/lib/upstream.lua`); one process without lines has its own limits, and a factor would only refuse calls that its agent takes.
 */
export class MemoryUpstream {
  /** By what a block is counted by: agent, endpoint and model. */
  private readonly blocks = new SweptMap<Block>((block, nowMs) => blockEndMs(block, nowMs) <= nowMs)
  private readonly observations = new Map<string, Observation>()

  /** Ms until the block ends; 0 = there is none. */
  blockedMs(value: string, nowMs: number): number {
    return Math.max(0, blockEndMs(this.blocks.get(value), nowMs) - nowMs)
  }

  /** Takes a clock that was set back by more than a step as it is. */
  follow(value: string, nowMs: number): void {
    const block = this.blocks.get(value)
    if (block !== undefined && block.atMs > nowMs + DEFAULTS.clockStepMs) this.blocks.set(value, { untilMs: blockEndMs(block, nowMs), atMs: nowMs })
  }

  /** A shorter block never shortens a longer one. */
  report(value: string, { kind, retryAfterMs, observed, name }: UpstreamReport, nowMs: number): UpstreamOutcome {
    if (observed !== null || kind === 'refused') this.observe({ name, limits: observed ?? {}, atMs: nowMs }, observed !== null)
    if (kind !== 'observed' && retryAfterMs > 0) {
      const untilMs = Math.max(blockEndMs(this.blocks.get(value), nowMs), nowMs + retryAfterMs)
      this.blocks.put(value, { untilMs, atMs: nowMs }, nowMs)
    }
    return { ...this.status(value, nowMs), cut: false }
  }

  status(value: string, nowMs: number): UpstreamStatus {
    const untilMs = blockEndMs(this.blocks.get(value), nowMs)
    return untilMs <= nowMs ? openUpstream(nowMs) : { ...openUpstream(nowMs), blockedUntilMs: untilMs, sinceMs: untilMs, overMs: untilMs }
  }

  lift(value: string): void {
    this.blocks.delete(value)
  }

  observed(): readonly Observation[] {
    return [...this.observations.values()]
  }

  private observe(observation: Observation, told: boolean): void {
    const key = upstreamKey(observation.name)
    const has = this.observations.has(key)
    if (has ? told : this.observations.size < OBSERVED_AT_MOST) this.observations.set(key, observation)
  }
}

import { randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import type { AdmissionRequest } from '../admission/request.js'
import type { Resolver } from '../admission/resolver.js'
import { DEFAULTS } from '../model/defaults.js'
import type { UpstreamLimited } from '../model/errors.js'
import {
  type HeadersLike,
  type ObservedLimits,
  type UpstreamName,
  type UpstreamOutcome,
  type UpstreamReport,
  type UpstreamStatus,
  upstreamKey,
} from '../model/upstream.js'
import { blockValue } from '../policy/upstream-block.js'
import type { Store } from '../store/store.js'
import type { Bus } from './bus.js'
import { pauseMs, readLimits, readRetryAfter } from './headers.js'

/** What an agent is known to allow now. */
export interface UpstreamState extends UpstreamName {
  /** open: nothing is cut. blocked: nothing starts. canary: one call goes ahead of all others. recovering: a part of its limits is used. */
  readonly state: 'open' | 'blocked' | 'canary' | 'recovering'
  /** The part of its limits that is used once it is not blocked, in (0, 1]. */
  readonly factor: number
  /** For how long nothing starts. */
  readonly blockedMs: number
  /** When it was cut last, by the store's clock; null where it is not cut. */
  readonly cutAt: Date | null
}

/** News of an agent. */
export interface UpstreamChange extends UpstreamState {
  /** refused: a call was. paused: nothing is left for a moment. observed: its limits are other ones. */
  readonly kind: UpstreamReport['kind']
}

/** What `announce` takes. */
export interface AnnounceInput extends UpstreamName {
  /** For how long it asked to be left alone, in ms; at most an hour is believed. Without it and `limits`: a second. */
  readonly retryAfterMs?: number | undefined
  /** What it told of its limits; alone it cuts nothing. */
  readonly limits?: ObservedLimits | undefined
}

const FORGET_AFTER = 1000

export function upstreamState(name: UpstreamName, known: UpstreamStatus): UpstreamState {
  const { atMs, blockedUntilMs, factor, canary, cutAtMs, overMs } = known
  const blockedMs = Math.max(0, blockedUntilMs - atMs)
  const state = blockedMs > 0 ? 'blocked' : canary && overMs > atMs ? 'canary' : factor < 1 ? 'recovering' : 'open'
  const { agent, endpoint, model } = name
  return {
    agent,
    endpoint,
    model,
    state,
    factor: state === 'open' ? 1 : factor,
    blockedMs,
    cutAt: cutAtMs > 0 && state !== 'open' ? new Date(Math.floor(cutAtMs)) : null,
  }
}

/** What agents say about their limits: told to the store, which decides for the whole fleet, and to whoever listens. */
export class UpstreamTracker {
  private readonly id = randomUUID()
  private readonly resolver: Resolver
  private readonly store: Store
  private readonly bus: Bus
  private readonly log: Logger
  private readonly listeners = new Set<(change: UpstreamChange) => void>()
  /** What was observed last here, so that the same is not said for every answer. */
  private readonly seen = new Map<string, { told: string; atMs: number }>()
  /** Until when agents are blocked, as far as this process has heard, by its monotonic clock: for when the store is away. */
  private readonly blocked = new Map<string, number>()
  private readonly saying = new Set<Promise<unknown>>()

  constructor(parts: { resolver: Resolver; store: Store; bus: Bus; log: Logger }) {
    this.resolver = parts.resolver
    this.store = parts.store
    this.bus = parts.bus
    this.log = parts.log
    this.bus.listen((news) => this.hear(news))
  }

  on(listener: (change: UpstreamChange) => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** @param input checked */
  async announce({ agent, endpoint, model, retryAfterMs, limits }: AnnounceInput): Promise<UpstreamState> {
    const name = { agent, endpoint, model }
    const only = limits !== undefined && retryAfterMs === undefined
    const report = only ? this.observation(name, limits) : this.refusal(name, retryAfterMs, limits ?? null)
    // What the store does not take holds here all the same.
    this.block(name, report.retryAfterMs)
    return this.say(report, await this.store.reportUpstream(this.resolver.blockOf(name), report))
  }

  async get(name: UpstreamName): Promise<UpstreamState> {
    const [known] = await this.store.upstreamStatus([this.resolver.blockOf(name)])
    return upstreamState(name, known as UpstreamStatus)
  }

  /**
   * An agent refused a call.
   * @param tell what tells the store, and puts the call back where it has a line
   */
  async refused<T extends AdmissionRequest>(
    request: T,
    name: UpstreamName,
    limited: UpstreamLimited,
    tell: (request: T, report: UpstreamReport) => Promise<UpstreamOutcome>,
  ) {
    const { headers, retryAfterMs = headers === undefined ? undefined : readRetryAfter(headers) } = limited
    const report = this.refusal(name, retryAfterMs, headers === undefined ? null : readLimits(headers))
    return this.say(report, await tell(request, report))
  }

  /** Reads an answer's headers. What they tell is said only where it is news, and behind whoever calls: an answer is not kept waiting. */
  observe({ agent, endpoint, model }: UpstreamName, headers: HeadersLike): void {
    const limits = readLimits(headers)
    if (limits === null) return
    const name = { agent, endpoint, model }
    const report = this.observation(name, limits)
    if (report.kind === 'observed' && !this.isNews(name, limits)) return
    const said = Promise.resolve(this.store.reportUpstream(this.resolver.blockOf(name), report))
      .then((outcome) => this.say(report, outcome))
      .catch((error: unknown) => {
        this.seen.delete(upstreamKey(name))
        this.log.warn({ err: error, agent }, 'what an agent told of its limits could not be noted')
      })
      .finally(() => this.saying.delete(said))
    this.saying.add(said)
  }

  /** For how long calls of this agent, endpoint and model are blocked, as far as this process has heard; see `blockValue`. */
  blockedMs(value: string): number {
    return Math.max(0, (this.blocked.get(value) ?? 0) - performance.now())
  }

  private block(name: UpstreamName, forMs: number): void {
    const value = blockValue(name)
    const untilMs = Math.max(this.blocked.get(value) ?? 0, performance.now() + forMs)
    if (this.blocked.size >= FORGET_AFTER) this.blocked.clear()
    if (forMs > 0) this.blocked.set(value, untilMs)
  }

  /** Resolves when everything observed so far is said. @param force does not wait for that: its Redis is gone */
  async close(force = false): Promise<void> {
    if (!force) await Promise.all(this.saying)
    this.listeners.clear()
    await this.bus.close()
  }

  private refusal(name: UpstreamName, retryAfterMs: number | undefined, observed: ObservedLimits | null): UpstreamReport {
    const waitMs = Math.min(DEFAULTS.longestRetryAfterMs, Math.max(1, retryAfterMs ?? DEFAULTS.retryAfterMs))
    return { kind: 'refused', retryAfterMs: waitMs, reduceFactor: this.resolver.upstream.reduceFactor, name, observed }
  }

  private observation(name: UpstreamName, observed: ObservedLimits): UpstreamReport {
    const waitMs = Math.min(DEFAULTS.longestRetryAfterMs, pauseMs(observed))
    return { kind: waitMs > 0 ? 'paused' : 'observed', retryAfterMs: waitMs, reduceFactor: 1, name, observed }
  }

  private isNews(name: UpstreamName, limits: ObservedLimits): boolean {
    const key = upstreamKey(name)
    const told = JSON.stringify(Object.entries(limits).map(([unit, { limit, windowMs }]) => [unit, limit, windowMs]))
    const seen = this.seen.get(key)
    const atMs = performance.now()
    // The same is told now and then: what is not is forgotten after a day.
    if (seen?.told === told && atMs - seen.atMs < DEFAULTS.observedAgainMs) return false
    if (this.seen.size >= FORGET_AFTER) this.seen.clear()
    this.seen.set(key, { told, atMs })
    return true
  }

  private say({ kind, name }: UpstreamReport, outcome: UpstreamOutcome): UpstreamState & { readonly cut: boolean } {
    const state = upstreamState(name, outcome)
    const change: UpstreamChange = { ...state, kind }
    // Told while it was blocked or cut: the next answer may tell what the cut has to know.
    if (kind === 'refused') this.seen.delete(upstreamKey(name))
    this.block(name, outcome.blockedUntilMs - outcome.atMs)
    this.emit(change)
    this.bus.publish(JSON.stringify({ from: this.id, change }))
    return { ...state, cut: outcome.cut }
  }

  private hear(news: string): void {
    try {
      const { from, change } = JSON.parse(news) as { from: string; change: UpstreamChange }
      if (from === this.id) return
      if (change.kind === 'refused') this.seen.delete(upstreamKey(change))
      this.block(change, change.blockedMs)
      this.emit({ ...change, cutAt: change.cutAt === null ? null : new Date(change.cutAt) })
    } catch (error) {
      this.log.warn({ err: error }, 'news of an agent could not be read')
    }
  }

  private emit(change: UpstreamChange): void {
    for (const listener of this.listeners) {
      try {
        listener(change)
      } catch (error) {
        this.log.error({ err: error }, "a listener to 'change' failed")
      }
    }
  }
}

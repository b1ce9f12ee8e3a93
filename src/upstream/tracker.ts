import { randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import type { Resolver } from '../admission/resolver.js'
import { DEFAULTS } from '../model/defaults.js'
import { StoreUnavailable, type UpstreamLimited } from '../model/errors.js'
import {
  type HeadersLike,
  type ObservedLimits,
  type UpstreamName,
  type UpstreamOutcome,
  type UpstreamReport,
  type UpstreamStatus,
  upstreamKey,
} from '../model/upstream.js'
import { blockValue } from '../policy/match.js'
import type { Store } from '../store/store.js'
import { endpointPath } from '../validation/endpoint.js'
import type { Bus } from './bus.js'
import { pauseMs, readLimits, readRetryAfter } from './headers.js'

/** The state of an agent, endpoint and model now. */
export interface UpstreamState extends UpstreamName {
  /**
   * - open: the agent's limits are used in full.
   * - blocked: no call starts.
   * - canary: one call, the probe, goes ahead of all others.
   * - recovering: a growing part of the limits is used.
   */
  readonly state: 'open' | 'blocked' | 'canary' | 'recovering'
  /** The part of the agent's limits that is used, or will be after the block, in (0, 1]. */
  readonly factor: number
  /** How long no call starts, in ms; 0 if it is not blocked. */
  readonly blockedMs: number
  /** When the capacity was last cut, by the store's clock; null if it is open. */
  readonly cutAt: Date | null
}

/** A report about an agent, with the state after it. */
export interface UpstreamChange extends UpstreamState {
  /** refused: the agent refused a call. paused: it has nothing left for a moment. observed: it reported other limits. lifted: an operator ended its block. */
  readonly kind: UpstreamReport['kind'] | 'lifted'
}

/** The input of `tollgate.capacity.announce`. */
export interface AnnounceInput extends UpstreamName {
  /** How long the agent asked to wait, in ms; longer times are cut to an hour. Default: a second, or no wait where `limits` is given. */
  readonly retryAfterMs?: number | undefined
  /** The limits that the agent reported. Without `retryAfterMs` they are only noted, and nothing is cut. */
  readonly limits?: ObservedLimits | undefined
}

/** The most agents, endpoints and models that a process remembers; beyond it it forgets them all and starts again. */
const REMEMBERED_UPSTREAMS = 1000

/** What a call's answer is about. The query of its endpoint is left out: it is not counted by, and may hold a key. */
function nameOf({ agent, endpoint, model }: UpstreamName): UpstreamName {
  return { agent, endpoint: endpoint === undefined ? undefined : endpointPath(endpoint), model }
}

/** How long an agent asked to be left alone, in ms. A handler may pass on what its client read: text, NaN. */
function askedFor({ headers, retryAfterMs }: UpstreamLimited): number | undefined {
  return typeof retryAfterMs === 'number' && retryAfterMs >= 0 ? retryAfterMs : headers === undefined ? undefined : readRetryAfter(headers)
}

/** The state of an agent in the terms of the public API. */
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

/**
 * Turns what agents answer into reports to the store, and passes the outcome on to this process' listeners and, by the bus, to all other processes of
 * the namespace.
 *
 * The model: an agent, endpoint and model has a block in the store. Every call has the meter of its block among its meters, so the store alone
 * decides, in the same script as for all limits, whether a call may go to the agent. This class decides nothing; it only writes reports.
 *
 *   open ──refused──▶ blocked ──Retry-After over──▶ probing ──probe succeeded──▶ recovering
 *    ▲                  ▲  ▲                          │                            │  │
 *    │                  │  └────── probe refused ─────┘                            │  │
 *    │                  └───────────────── refused ────────────────────────────────┘  │
 *    └────────────────────────────── factor is 1 again ───────────────────────────────┘
 *
 * - A refusal of a call blocks the agent for its Retry-After, and cuts the factor by `reduceFactor`. Calls in flight that are refused with it prolong
 *   the block, but cut nothing more.
 * - probing (the public state 'canary'): one call, the probe, goes ahead of all others. Its lease bounds how long the others wait for its outcome.
 *   With `canary: false` this state is left out.
 * - recovering: every `recoverEveryMs` the factor grows by `recoverFactor`.
 * - A pause (an answer said that nothing is left) blocks without a cut. An observation only notes the limits that the agent reported; recovery does
 *   not exceed them.
 * - Without Redis there is no recovery: the agent is blocked for its Retry-After, then open.
 *
 * Reports come from three places: a worker whose call was refused (`refused`; the same script puts the call back into its line), the headers of every
 * answer (`observe`), and the application (`announce`). Observations are sent in the background and only where they are news, so that an answer costs
 * no round trip.
 *
 * The bus carries news for listeners, for what was observed, and for outages: each process keeps until when it knows agents to be blocked
 * (`blockedMs`), by its monotonic clock, and goes by that while the store is away. If a message is lost, nothing but this is late: the next script of
 * every process finds the block in the store.
 *
 * If the process dies before a report reached the store, the report is lost: the next refused call makes it again. If it dies after that and before
 * the bus has the news, the block holds everywhere, and only the listeners of other processes miss the change. If it dies while its call is the
 * probe, the lease ends, and another call probes.
 */
export class UpstreamTracker {
  private readonly id = randomUUID()
  private readonly listeners = new Set<(change: UpstreamChange) => void>()
  /** The limits that were observed last, so that unchanged ones are not reported again for every answer. */
  private readonly reported = new Map<string, { limits: string; atMs: number }>()
  /** Until when agents are blocked, by this process' monotonic clock; see `blockedMs`. */
  private readonly blockedUntil = new Map<string, number>()
  private readonly reporting = new Set<Promise<unknown>>()

  constructor(
    private readonly parts: {
      readonly resolver: Resolver
      readonly store: Store
      readonly bus: Bus
      readonly log: Logger
      /** Is told of each report of this process. */
      readonly reported?: (agent: string, blocks: boolean, cut: boolean) => void
    },
  ) {
    parts.bus.listen((message) => this.receive(message))
  }

  /** Calls a function at every change, in any process. Returns a function that ends it. */
  on(listener: (change: UpstreamChange) => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** Reports what the application knows of an agent. @param input checked */
  async announce({ retryAfterMs, limits, ...named }: AnnounceInput): Promise<UpstreamState> {
    const { store, resolver } = this.parts
    const name = nameOf(named)
    const only = limits !== undefined && retryAfterMs === undefined
    const report = only ? this.observation(name, limits) : this.refusal(name, retryAfterMs, limits ?? null)
    // Before the store has it: if the store is away, the block holds in this process all the same.
    this.block(name, report.retryAfterMs)
    return this.publish(report, await store.reportUpstream(resolver.blockOf(name), report))
  }

  async get(named: UpstreamName): Promise<UpstreamState> {
    const name = nameOf(named)
    const [known] = await this.parts.store.upstreamStatus([this.parts.resolver.blockOf(name)])
    return upstreamState(name, known as UpstreamStatus)
  }

  /**
   * Reports that an agent refused a call.
   * @param send sends the report to the store, and puts the call back where it has a line
   */
  async refused<Outcome extends UpstreamOutcome & { readonly refusal: string }>(
    name: UpstreamName,
    limited: UpstreamLimited,
    send: (report: UpstreamReport) => Promise<Outcome>,
  ): Promise<Outcome & UpstreamState> {
    const { headers } = limited
    const report = this.refusal(name, askedFor(limited), headers === undefined ? null : readLimits(headers))
    const outcome = await send(report)
    // A refusal that says nothing of the agent is no news.
    const state = outcome.refusal === 'blocks' ? this.publish(report, outcome) : upstreamState(name, outcome)
    return { ...outcome, ...state }
  }

  /** An agent refused a call while the store is away: this process alone leaves it alone. */
  refusedHere(named: UpstreamName, limited: UpstreamLimited): void {
    const name = nameOf(named)
    this.block(name, this.refusal(name, askedFor(limited), null).retryAfterMs)
  }

  /** Reads the rate-limit headers of an answer, and reports them in the background where they are news. Never throws. */
  observe(call: UpstreamName, headers: HeadersLike): void {
    const limits = readLimits(headers)
    if (limits === null) return
    const name = nameOf(call)
    const report = this.observation(name, limits)
    if (report.kind === 'observed' && !this.isNews(name, limits)) return
    const reporting = Promise.resolve(this.parts.store.reportUpstream(this.parts.resolver.blockOf(name), report))
      .then((outcome) => this.publish(report, outcome))
      .catch((error: unknown) => {
        this.reported.delete(upstreamKey(name))
        // An outage of Redis is logged by the circuit breaker, once.
        if (!(error instanceof StoreUnavailable)) this.parts.log.warn({ err: error, agent: name.agent }, 'what an agent told of its limits could not be noted')
      })
      .finally(() => this.reporting.delete(reporting))
    this.reporting.add(reporting)
  }

  /** An operator has lifted a block: every process forgets it. */
  async lifted(name: UpstreamName): Promise<void> {
    this.announceChange({ ...(await this.get(name)), kind: 'lifted' })
  }

  /** How long an agent, endpoint and model is blocked, in ms, as far as this process knows. @param value as of `blockValue` */
  blockedMs(value: string): number {
    return Math.max(0, (this.blockedUntil.get(value) ?? 0) - performance.now())
  }

  private block(name: UpstreamName, forMs: number): void {
    const value = blockValue(name)
    const untilMs = Math.max(this.blockedUntil.get(value) ?? 0, performance.now() + forMs)
    if (this.blockedUntil.size >= REMEMBERED_UPSTREAMS) this.blockedUntil.clear()
    if (forMs > 0) this.blockedUntil.set(value, untilMs)
  }

  /** Resolves when all observations are in the store. @param force does not wait for them: Redis is gone */
  async close(force = false): Promise<void> {
    if (!force) await Promise.all(this.reporting)
    this.listeners.clear()
    await this.parts.bus.close()
  }

  private refusal(name: UpstreamName, retryAfterMs: number | undefined, observed: ObservedLimits | null): UpstreamReport {
    // A handler may have worked it out wrong.
    const told = Number.isNaN(Number(retryAfterMs ?? Number.NaN)) ? DEFAULTS.retryAfterMs : Number(retryAfterMs)
    const waitMs = Math.min(DEFAULTS.longestRetryAfterMs, Math.max(1, told))
    return { kind: 'refused', retryAfterMs: waitMs, reduceFactor: this.parts.resolver.upstream.reduceFactor, name, observed }
  }

  private observation(name: UpstreamName, observed: ObservedLimits): UpstreamReport {
    const waitMs = Math.min(DEFAULTS.longestRetryAfterMs, pauseMs(observed))
    return { kind: waitMs > 0 ? 'paused' : 'observed', retryAfterMs: waitMs, reduceFactor: 1, name, observed }
  }

  /** Whether observed limits differ from the last reported ones, or those were reported long ago: the store forgets all of them a day after the last report. */
  private isNews(name: UpstreamName, observed: ObservedLimits): boolean {
    const key = upstreamKey(name)
    let limits = ''
    for (const unit in observed) {
      const one = observed[unit as keyof ObservedLimits]
      limits += `${unit} ${one?.limit} ${one?.windowMs} `
    }
    const last = this.reported.get(key)
    const atMs = performance.now()
    if (last?.limits === limits && atMs - last.atMs < DEFAULTS.observedAgainMs) return false
    if (this.reported.size >= REMEMBERED_UPSTREAMS) this.reported.clear()
    this.reported.set(key, { limits, atMs })
    return true
  }

  /** Passes the outcome of a report on to the listeners of this process and, by the bus, of the others. */
  private publish({ kind, name }: UpstreamReport, outcome: UpstreamOutcome): UpstreamState & { readonly cut: boolean } {
    const state = upstreamState(name, outcome)
    this.parts.reported?.(name.agent, kind !== 'observed' && outcome.blockedUntilMs > outcome.atMs, outcome.cut)
    this.announceChange({ ...state, kind })
    return { ...state, cut: outcome.cut }
  }

  private announceChange(change: UpstreamChange): void {
    this.apply(change)
    this.parts.bus.publish(JSON.stringify({ from: this.id, change }))
  }

  /** Handles a message of the bus: the change that another process published. */
  private receive(message: string): void {
    try {
      const { from, change } = JSON.parse(message) as { from: string; change: UpstreamChange }
      if (from === this.id) return
      this.apply({ ...change, cutAt: change.cutAt === null ? null : new Date(change.cutAt) })
    } catch (error) {
      this.parts.log.warn({ err: error }, 'news of an agent could not be read')
    }
  }

  private apply(change: UpstreamChange): void {
    // The store keeps observed limits for the recovery only once the agent is blocked: after a refusal the next answer reports them again.
    if (change.kind === 'refused') this.reported.delete(upstreamKey(change))
    if (change.kind === 'lifted') this.blockedUntil.delete(blockValue(change))
    this.block(change, change.blockedMs)
    for (const listener of this.listeners) {
      try {
        listener(change)
      } catch (error) {
        this.parts.log.error({ err: error }, "a listener to 'change' failed")
      }
    }
  }
}

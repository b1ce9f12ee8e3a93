import type { AdmissionRequest } from '../../src/admission/request.js'
import type { Resolver } from '../../src/admission/resolver.js'
import type { GivenClock, RuleSpec, Store } from '../../src/index.js'
import { AS_ESTIMATED, NOTHING } from '../../src/model/cost.js'

/** An agent with its own limit, a token bucket: above it, it answers 429 with Retry-After in whole seconds. */
export class LimitedAgent {
  refused = 0
  served = 0
  private tokens: number
  private atMs: number
  private readonly perMs: number
  private readonly burst: number

  constructor(perSecond: number, burst: number, nowMs: number) {
    this.perMs = perSecond / 1000
    this.burst = burst
    this.tokens = burst
    this.atMs = nowMs
  }

  /** @returns 0 where the agent served the call, else its Retry-After in ms */
  call(nowMs: number): number {
    this.tokens = Math.min(this.burst, this.tokens + (nowMs - this.atMs) * this.perMs)
    this.atMs = nowMs
    if (this.tokens >= 1 - 1e-9) {
      this.tokens -= 1
      this.served++
      return 0
    }
    this.refused++
    return Math.ceil((1 - this.tokens) / this.perMs / 1000) * 1000
  }
}

/** A step of the simulation, run at its time. */
interface Event {
  readonly atMs: number
  readonly run: () => void | Promise<void>
}

/**
 * Workers that always have a call to make, an agent that is `latencyMs` away, and a store on a given
 * clock. A worker whose call is refused waits for `retryAfterMs` and tries again.
 */
export class UpstreamSimulation {
  readonly starts: number[] = []
  readonly refusals: number[] = []
  private readonly events: Event[] = []
  /** Workers that have a call to make. */
  private waiting = 0
  private wakeAtMs = Number.POSITIVE_INFINITY

  constructor(
    readonly store: Store,
    readonly clock: GivenClock,
    readonly resolver: Resolver,
    readonly agent: Pick<LimitedAgent, 'call'>,
    readonly latencyMs: () => number,
  ) {}

  async run(workers: number, forMs: number): Promise<void> {
    const until = this.clock.nowMs + forMs
    this.waiting = workers
    this.at(this.clock.nowMs, () => this.wake())
    for (;;) {
      const first = this.events.reduce((least, one, index) => (one.atMs < (this.events[least] as Event).atMs ? index : least), 0)
      const [event] = this.events.splice(first, 1)
      if (event === undefined || event.atMs > until) return
      this.clock.nowMs = Math.max(this.clock.nowMs, event.atMs)
      await event.run()
    }
  }

  private at(atMs: number, run: () => void | Promise<void>): void {
    this.events.push({ atMs, run })
  }

  /** Starts calls for the workers that wait, until the store refuses one. */
  private async wake(): Promise<void> {
    this.wakeAtMs = Number.POSITIVE_INFINITY
    while (this.waiting > 0 && (await this.start())) this.waiting--
  }

  /** @returns whether the store admitted the call */
  private async start(): Promise<boolean> {
    const resolved = this.resolver.resolve({ agent: 'llm' }, { ...NOTHING, requests: 1 })
    const { decision, request } = await this.store.admit({ id: '', token: '', call: {}, ...resolved })
    if (decision.outcome === 'reject') {
      this.wakeAt(this.clock.nowMs + (decision.retryAfterMs ?? 1))
      return false
    }
    this.starts.push(this.clock.nowMs)
    this.at(this.clock.nowMs + this.latencyMs(), () => {
      const retryAfterMs = this.agent.call(this.clock.nowMs)
      this.at(this.clock.nowMs + this.latencyMs(), () => this.end(request, retryAfterMs))
    })
    return true
  }

  private async end(request: AdmissionRequest, retryAfterMs: number): Promise<void> {
    if (retryAfterMs > 0) {
      this.refusals.push(this.clock.nowMs)
      await this.store.reportUpstream(request, { kind: 'refused', retryAfterMs, reduceFactor: 0.5, name: { agent: 'llm' }, observed: null })
    } else await this.store.settle(request, AS_ESTIMATED, 'end')
    this.waiting++
    await this.wake()
  }

  private wakeAt(atMs: number): void {
    if (atMs >= this.wakeAtMs) return
    this.wakeAtMs = atMs
    this.at(atMs, () => (this.wakeAtMs === atMs ? this.wake() : undefined))
  }
}

/** A rule that guards the agent. */
export function guard(perSecond: number, burst: number): RuleSpec {
  return { name: 'account', scope: 'agent', limits: [{ requests: perSecond, per: 'second', burst }] }
}

import type { Resolver } from '../../src/admission/resolver.js'
import { GivenClock, MemoryStore, type RuleSpec } from '../../src/index.js'
import { AS_ESTIMATED, NOTHING } from '../../src/model/cost.js'
import type { UpstreamReport } from '../../src/model/upstream.js'
import { T0 } from './gate.js'

/** An agent with a limit of its own, as a token bucket that says 429 with Retry-After. */
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

  /** 0 where it served the call, else for how long it asks to be left alone. */
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

/** When what happens next, in order. */
interface Event {
  readonly atMs: number
  readonly run: () => void
}

/**
 * Workers that always have a call to make, an agent that is `latencyMs` away, and a store in
 * memory on a given clock: each waits as long as it is told and asks again.
 */
export class UpstreamFleet {
  readonly clock = new GivenClock(T0)
  readonly store = new MemoryStore(() => this.clock.nowMs)
  readonly starts: number[] = []
  readonly refusals: number[] = []
  private readonly events: Event[] = []
  private readonly waiting: (() => void)[] = []
  private wakeAtMs = Number.POSITIVE_INFINITY

  constructor(
    readonly resolver: Resolver,
    readonly agent: Pick<LimitedAgent, 'call'>,
    readonly latencyMs: () => number,
  ) {}

  run(workers: number, forMs: number): void {
    const until = this.clock.nowMs + forMs
    for (let worker = 0; worker < workers; worker++) this.at(this.clock.nowMs, () => this.next())
    for (;;) {
      const first = this.events.reduce((least, one, index) => (one.atMs < (this.events[least] as Event).atMs ? index : least), 0)
      const [event] = this.events.splice(first, 1)
      if (event === undefined || event.atMs > until) return
      this.clock.nowMs = Math.max(this.clock.nowMs, event.atMs)
      event.run()
    }
  }

  private at(atMs: number, run: () => void): void {
    this.events.push({ atMs, run })
  }

  private next(): void {
    const resolved = this.resolver.resolve({ agent: 'llm' }, { ...NOTHING, requests: 1 })
    const { decision, request } = this.store.admit({ id: '', token: '', call: {}, ...resolved })
    if (decision.outcome === 'reject') {
      this.waiting.push(() => this.next())
      const wakeAtMs = this.clock.nowMs + (decision.retryAfterMs ?? 1)
      if (wakeAtMs < this.wakeAtMs) {
        this.wakeAtMs = wakeAtMs
        this.at(wakeAtMs, () => {
          if (this.wakeAtMs === wakeAtMs) this.wake()
        })
      }
      return
    }
    this.starts.push(this.clock.nowMs)
    this.at(this.clock.nowMs + this.latencyMs(), () => {
      const retryAfterMs = this.agent.call(this.clock.nowMs)
      this.at(this.clock.nowMs + this.latencyMs(), () => {
        if (retryAfterMs > 0) {
          this.refusals.push(this.clock.nowMs)
          const said: UpstreamReport = { kind: 'refused', retryAfterMs, reduceFactor: 0.5, name: { agent: 'llm' }, observed: null }
          this.store.reportUpstream(request, said)
        } else this.store.settle(request, AS_ESTIMATED, 'end')
        this.wake()
        this.next()
      })
    })
  }

  private wake(): void {
    this.wakeAtMs = Number.POSITIVE_INFINITY
    const waiting = this.waiting.splice(0)
    for (const one of waiting) one()
  }
}

/** A rule that guards the agent. */
export function guard(perSecond: number, burst: number): RuleSpec {
  return { name: 'account', scope: 'agent', limits: [{ requests: perSecond, per: 'second', burst }] }
}

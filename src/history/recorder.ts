import type { Logger } from 'pino'
import type { ActualCosts, Costs } from '../model/cost.js'
import type { Decision, RejectDecision } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import { MINUTE, SECOND } from '../model/time.js'
import { within } from '../redis/bounded-wait.js'
import type { GateCalls } from './gate-calls.js'
import type { HistoryBatch, SeriesStore, TopEntry } from './series.js'
import { SpendTally } from './spend-tally.js'
import { type TalliedCall, Tally } from './tally.js'

/** How often counts are sent, and what is spent. */
const FLUSH_MS = 2 * SECOND
const SPEND_FLUSHES = 5
/** A batch that Redis did not take is sent again for so long; what is older is given up, since it would stand in the wrong minute. */
const KEPT_MS = MINUTE

/** Events of calls, to be noted in their jobs. */
export interface EventSink {
  flush(): Promise<void>
}

/**
 * Counts what this process does, and adds it to the history of the namespace every two seconds (what is spent: every ten).
 *
 * Model. A call's path adds numbers in memory (Tally), and never waits for the history. A timer sends what was counted since as one script call, and
 * begins anew. Batches are numbered, so that one whose reply was lost is added once. The dispatcher adds what it sees of the lines to the same tally.
 *
 * If the process dies, it loses what it has counted since the last flush: two seconds of counts, ten of what was spent, and nothing else, since calls do
 * not depend on it. While Redis is away, counts go on in memory: a minute of them is sent when it is back.
 */
export class Recorder {
  private tally = new Tally()
  private spend = new SpendTally()
  private readonly timer: NodeJS.Timeout
  private flushes = 0
  private sending: Promise<void> | undefined
  private sinceMs = performance.now()
  private events: EventSink | undefined
  /** Brings what was counted elsewhere, before it is sent. */
  onSend: () => void = () => {}

  constructor(
    private readonly parts: {
      readonly series: SeriesStore
      readonly log: Pick<Logger, 'debug'>
      /** About the time of the store. */
      readonly nowMs: () => number
      /** Whether the store is out of reach now. */
      readonly away: () => boolean
    },
  ) {
    this.timer = setInterval(() => void this.flush(), FLUSH_MS)
    this.timer.unref()
  }

  /** Calls that have jobs leave their events there. */
  notes(events: EventSink): void {
    this.events = events
  }

  arrived(of: TalliedCall): void {
    this.tally.arrived(of)
  }

  decided(of: TalliedCall, decision: Decision, tookMs: number): void {
    this.tally.decided(of, decision, tookMs)
  }

  /** A call at the gate that waits for nothing. */
  atGate(of: TalliedCall, decision: Decision, tookMs: number): void {
    this.arrived(of)
    this.decided(of, decision, tookMs)
    if (decision.outcome === 'run') this.started(of, 0)
    else this.ended(of, 'refused')
  }

  /** Many of these, of one kind. @param lastMs when the last one was decided on */
  sumAtGate(calls: GateCalls, lastMs: number): void {
    this.tally.atGate(calls, lastMs)
  }

  violated(of: TalliedCall, { binding }: RejectDecision): void {
    this.tally.violated(of, binding)
  }

  /** What limits have left after a decision. */
  looked(of: TalliedCall, decision: Decision): void {
    this.tally.look(of, decision)
  }

  started(of: TalliedCall, waitedMs: number): void {
    this.tally.started(of, Math.max(0, waitedMs), this.parts.nowMs())
  }

  ended(of: TalliedCall, how: 'done' | 'failed' | 'refused' | 'expired' | 'returned'): void {
    this.tally.ended(of, how)
  }

  /** What a call has cost, as it was settled; where a unit is undefined the estimate stands. */
  used(of: TalliedCall & { readonly costs: Costs }, actual: ActualCosts): void {
    const { costs, call } = of
    const estimatedTokens = costs.tokens
    const used = { estimatedTokens, tokens: actual.tokens ?? estimatedTokens, usd: actual.usd ?? costs.usd }
    this.tally.used(of, used)
    this.spend.ended(call, estimatedTokens, used.tokens, used.usd)
  }

  storeError(of: TalliedCall): void {
    this.tally.storeError(of)
  }

  unchecked(of: Pick<TalliedCall, 'meters'>): void {
    this.tally.unchecked(of)
  }

  /** What the dispatcher saw of the lines. */
  saw(batch: HistoryBatch): void {
    this.tally.saw(batch)
  }

  /** Sends what was counted. Never throws. */
  flush(withSpend = ++this.flushes % SPEND_FLUSHES === 0): Promise<void> {
    this.sending ??= this.send(withSpend).finally(() => {
      this.sending = undefined
    })
    return this.sending
  }

  /** Sends what was counted until now, though a flush may be under way. */
  async sync(): Promise<void> {
    await this.sending
    await this.flush(true)
  }

  private async send(withSpend: boolean): Promise<void> {
    const nowMs = performance.now()
    const { series: store, log, away } = this.parts
    this.onSend()
    if (away()) {
      if (nowMs - this.sinceMs > KEPT_MS) this.begin(nowMs)
      return
    }
    const counted = this.tally.batch()
    const spent = withSpend ? this.spend.batch() : { series: [], tops: [] as TopEntry[] }
    this.begin(nowMs, withSpend)
    try {
      await Promise.all([store.add({ series: [...counted.series, ...spent.series], tops: [...counted.tops, ...spent.tops] }), this.events?.flush()])
    } catch (error) {
      log.debug({ err: error }, 'the history could not be written; these counts are lost')
    }
  }

  private begin(nowMs: number, withSpend = true): void {
    this.tally = new Tally()
    if (withSpend) this.spend = new SpendTally()
    this.sinceMs = nowMs
  }

  /** @param gone whether the store is out of reach: what was counted is lost then */
  async close(gone: boolean): Promise<void> {
    clearInterval(this.timer)
    if (gone) return
    // A Redis that hangs keeps no process from its end.
    await within(DEFAULTS.storeTimeoutMs, this.sync()).catch(() => {})
  }
}

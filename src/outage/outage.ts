import { setTimeout as sleep } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import type { AdmissionRequest } from '../admission/request.js'
import { DEFAULTS } from '../model/defaults.js'
import { approximateMs, type Clock } from '../model/time.js'
import type { OnStoreError } from '../policy/rule.js'
import type { Keys } from '../redis/keys.js'
import { isOutOfMemory, StoreSilent } from '../redis/store-error.js'
import type { Admission } from '../store/store.js'
import { mergeUsage } from './absorb.js'
import { Arrears, type Payer } from './arrears.js'
import { CircuitBreaker } from './breaker.js'
import { Fallback } from './fallback.js'
import type { OutageFigures } from './figures.js'
import { type Member, Members } from './members.js'

export interface OutageParts {
  readonly client: Redis
  readonly keys: Keys
  readonly clock: Clock
  readonly log: Logger
  readonly onStoreError: OnStoreError
  readonly timeoutMs: number
  readonly maxUnchecked: number
}

/** One process's way through times in which Redis is away: who notices, who answers, and what is done when it is back. */
export class Outage {
  readonly breaker: CircuitBreaker
  readonly fallback: Fallback
  readonly arrears: Arrears
  private readonly parts: OutageParts
  private readonly members: Members
  private readonly unresolved = new Set<Promise<void>>()
  private readonly timer: NodeJS.Timeout
  private readonly lost = () => this.breaker.trip(new StoreSilent('the connection to Redis was lost'))
  private readonly ready = () => this.breaker.tryNow()
  private beating = false
  private outages = 0
  /** Who was there when the outage began. */
  private others: readonly Member[] = []
  private sinceMs = 0
  /** Set by whoever guards a store. */
  private payer: Pick<Payer, 'settle' | 'release'> | undefined

  constructor(parts: OutageParts) {
    const { client, keys, clock, log } = parts
    this.parts = parts
    this.members = new Members(client, keys)
    this.arrears = new Arrears(log)
    this.fallback = new Fallback(parts.onStoreError, parts.maxUnchecked, () => (clock.forScripts() === '' ? this.members.nowMs() : approximateMs(clock)))
    this.breaker = new CircuitBreaker({
      timeoutMs: parts.timeoutMs,
      connected: () => client.status === 'ready',
      probe: () => this.members.beat(this.letsIn),
      catchUp: (answeredAtMs) => this.catchUp(answeredAtMs),
      opened: (cause) => this.begin(cause),
      closed: () => this.end(),
    })
    client.on('close', this.lost)
    client.on('ready', this.ready)
    this.timer = setInterval(() => this.beat(), DEFAULTS.beatMs)
    this.timer.unref()
  }

  /** Says that this process is there, before it asks for anything. */
  async join(): Promise<void> {
    await this.members.beat(false)
  }

  pays(payer: Pick<Payer, 'settle' | 'release'>): void {
    this.payer = payer
  }

  /** @param blockedMs for how long an agent, endpoint and model are blocked, as far as this process has heard */
  heeds(blockedMs: (value: string) => number): void {
    this.fallback.blockedMs = blockedMs
  }

  /** Redis takes what gives room back, though nothing else: it has no memory left. */
  get takesReleases(): boolean {
    return isOutOfMemory(this.breaker.cause)
  }

  /** These were answered here, but had been sent: Redis may do them later. What it does then counts once. */
  late(given: readonly Admission[], sent: Promise<readonly Admission[]>): void {
    const atMs = given[0]?.decision.atMs ?? 0
    const resolved: Promise<void> = sent
      .then(
        (real) => {
          for (const [n, one] of real.entries()) if (one.decision.outcome === 'run') this.undo(one.request, given[n] as Admission, atMs)
        },
        // It was refused as a whole, or never sent.
        () => {},
      )
      .finally(() => this.unresolved.delete(resolved))
    this.unresolved.add(resolved)
  }

  figures(): OutageFigures {
    const { away } = this.breaker
    const { metered, refused } = this.fallback.counts
    const owed = this.arrears.size + this.unresolved.size + (this.fallback.books.empty ? 0 : 1)
    return {
      away,
      awayMs: away ? performance.now() - this.sinceMs : null,
      outages: this.outages,
      metered,
      unchecked: this.fallback.unchecked.total,
      refused,
      owed,
    }
  }

  /** Leaves the fleet. What is owed to a Redis that is away is lost, and said. */
  async close(): Promise<void> {
    clearInterval(this.timer)
    const { client, log } = this.parts
    client.off('close', this.lost)
    client.off('ready', this.ready)
    this.breaker.stop()
    const { owed } = this.figures()
    if (owed > 0) log.warn({ owed }, 'closed while Redis is away: what was used meanwhile is not charged')
    if (!this.breaker.away && client.status === 'ready') await this.breaker.within(this.members.leave()).catch(() => {})
  }

  private beat(): void {
    if (this.beating || this.breaker.away || this.parts.client.status !== 'ready') return
    this.beating = true
    this.breaker
      .watch(() => this.members.beat(false))
      .catch(() => {})
      .finally(() => {
        this.beating = false
      })
  }

  private begin(cause: Error): void {
    this.outages++
    this.sinceMs = performance.now()
    const { share, others } = this.members
    this.others = others
    // What was let in between the last look and the end of an outage before this one.
    if (!this.fallback.books.empty) this.arrears.mergeUsage(this.fallback.turn())
    this.fallback.begin(share)
    this.parts.log.warn({ cause: cause.message, onStoreError: this.parts.onStoreError, processes: share.of }, 'Redis is away; checks are answered without it')
  }

  private end(): void {
    this.parts.log.warn(
      { awayMs: Math.round(performance.now() - this.sinceMs), ...this.fallback.counts, unchecked: this.fallback.unchecked.total },
      'Redis is back',
    )
    if (this.arrears.size > 0 || !this.fallback.books.empty) this.takeIn().catch((error: unknown) => this.breaker.trip(error as Error))
  }

  /** Whether anybody was let in, or may have been by the others of the fleet. */
  private get letsIn(): boolean {
    return this.parts.onStoreError !== 'closed' || !this.fallback.books.empty
  }

  /** What Redis charged after all for a call that was answered here. */
  private undo(real: AdmissionRequest, given: Admission, atMs: number): void {
    const letIn = given.decision.outcome === 'run'
    if (real.forGood === true) {
      // For good means that it cannot be given back there: it is not counted here instead.
      if (letIn) this.fallback.books.forget(given.request, atMs)
    } else if (letIn || real.call.id === undefined) this.arrears.release(real)
    // Else it was refused under an id of its own: asked again it is found charged.
  }

  /**
   * Redis answers again. What was used meanwhile is taken in; calls that come while this goes on are
   * still answered here. Then the others are waited for, as long as they may take to find out: in
   * Redis there is room for what they have used and not said yet, and who is first would take it.
   */
  private async catchUp(answeredAtMs: number): Promise<void> {
    const { breaker, members, letsIn } = this
    await this.takeIn()
    const untilMs = performance.now() + DEFAULTS.memberMs
    while (letsIn && this.others.length > 0 && performance.now() < untilMs) {
      await breaker.within(members.beat(false))
      await this.takeIn()
      this.others = members.missing(this.others, answeredAtMs)
      if (this.others.length > 0) await sleep(DEFAULTS.regroupMs, undefined, { ref: false })
    }
    await this.takeIn()
  }

  /**
   * What was sent and not answered is known first, then what was used and ended is told. Once: who is
   * busy uses more meanwhile, and would never be done. What was used in the last round trip is told
   * when the outage has ended, see `end`.
   */
  private async takeIn(): Promise<void> {
    const { client, keys, clock } = this.parts
    const { payer, breaker } = this
    if (payer === undefined) return
    const pays: Payer = {
      settle: (request, actual, how) => breaker.within(payer.settle(request, actual, how)),
      release: (request) => breaker.within(payer.release(request)),
      mergeUsage: (name, takings) => breaker.within(mergeUsage(client, keys, clock, name, takings)),
    }
    await breaker.within(Promise.all(this.unresolved))
    if (!this.fallback.books.empty) this.arrears.mergeUsage(this.fallback.turn())
    await this.arrears.pay(pays)
  }
}

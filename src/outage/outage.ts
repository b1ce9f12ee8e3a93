import { setTimeout as sleep } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import type { AdmissionRequest } from '../admission/request.js'
import type { ActualCosts } from '../model/cost.js'
import { DEFAULTS } from '../model/defaults.js'
import { approximateMs, type Clock } from '../model/time.js'
import type { OnStoreError } from '../policy/rule.js'
import { followerOf } from '../redis/follower.js'
import { replicated } from '../redis/replicas.js'
import { isOutOfMemory, isStoreError, StoreSilent } from '../redis/store-error.js'
import type { LedgerNames } from '../store/ledger-names.js'
import type { BatchedAdmission } from '../store/redis/redis-store.js'
import type { ScriptClient } from '../store/redis/script-client.js'
import type { Admission } from '../store/store.js'
import { CircuitBreaker } from './breaker.js'
import { DeferredSettlements } from './deferred-settlements.js'
import { type EnterNamespace, Entry } from './entry.js'
import { mergeUsage } from './journal.js'
import { LocalAdmission } from './local-admission.js'
import { type Member, Members } from './members.js'
import { Regroup } from './regroup.js'

/** How a process stands to its Redis. */
export interface OutageFigures {
  /** Whether Redis is taken to be away now. */
  readonly away: boolean
  /** For how long, in ms; null while it is there. */
  readonly awayMs: number | null
  /** How often it was away since this Tollgate was opened. */
  readonly outages: number
  /** Calls let in by this process's share of the limits. */
  readonly metered: number
  /** Calls let in unchecked. */
  readonly unchecked: number
  /** Calls refused because Redis was away, or the share had no room. */
  readonly refused: number
  /** What Redis has not been told yet. */
  readonly owed: number
}

/** Where there is no Redis that could be away. */
export const NO_OUTAGE: OutageFigures = { away: false, awayMs: null, outages: 0, metered: 0, unchecked: 0, refused: 0, owed: 0 }

/** Meters, and calls that go on, in one report. */
const REPORTED_AT_ONCE = 100

/** What a call has cost: at its end, or so far. */
export interface Settled {
  readonly actual: ActualCosts
  readonly how: 'end' | 'part'
}

export interface OutageParts {
  readonly client: Redis
  readonly scriptClient: ScriptClient
  readonly clock: Clock
  readonly log: Logger
  readonly ledgerNames: LedgerNames
  readonly onStoreError: OnStoreError
  readonly timeoutMs: number
  readonly maxUnchecked: number
  /** How many processes are taken to share the limits before Redis has said it. */
  readonly processes: number
}

type OutageState =
  | { readonly kind: 'there' }
  /** `others` are the processes that were there when the outage began. */
  | { readonly kind: 'away'; readonly sinceMs: number; readonly others: readonly Member[] }

/**
 * One process's way through outages of its Redis.
 *
 *     there ──the breaker opens: begin──> away ──a probe is answered: catchUp──> there
 *
 * While Redis is there, this process says every second that it is, and hears how many processes
 * share the limits. The last number it heard is its share in an outage.
 *
 * `begin` starts the journal. Calls are answered by `local` from then on, which enters what it lets in there. Ends of calls that Redis had let in
 * wait in `deferred`. A command that was under way when the breaker opened was answered by `local`, too, and Redis may still do it: `late` waits for
 * its own answer and takes the second charge back.
 *
 * `catchUp` runs between the answer to a probe and the next call to Redis:
 * 1. wait for the answers to commands of before the outage,
 * 2. report what the journal holds, then the ends of calls (`takeIn`),
 * 3. where calls may have been let in: say so, and wait until the others have reported, too (`Regroup`).
 * Calls that come meanwhile are still answered here, so `takeIn` is done again each time, and once
 * more by `end` for the last round trip.
 *
 * If the process dies: what it let in is not charged, and the calls whose ends it deferred stay charged as estimated. If it dies in `takeIn`, each
 * message was either taken in whole or not. If the outage goes on in the middle of `catchUp`, what was not taken in stays in the list, and the next
 * probe begins anew.
 */
export class Outage {
  readonly breaker: CircuitBreaker
  readonly local: LocalAdmission
  readonly deferred: DeferredSettlements
  private state: OutageState = { kind: 'there' }
  private outages = 0
  private readonly members: Members
  private readonly regroup: Regroup
  /** Ends when the answers to commands are known that `local` has answered. */
  private readonly unresolved = new Set<Promise<void>>()
  private readonly left = new AbortController()
  private takingIn: Promise<void> | undefined
  private readonly awaitingOutage = new Set<() => void>()
  private readonly entry: Entry
  private readonly lost = () => this.breaker.trip(new StoreSilent('the connection to Redis was lost'))
  private readonly ready = () => this.breaker.tryNow()

  constructor(private readonly parts: OutageParts) {
    const { client, scriptClient, log, ledgerNames } = parts
    this.members = new Members(client, scriptClient.keys, parts.processes)
    this.regroup = new Regroup(this.members)
    this.deferred = new DeferredSettlements(log)
    this.entry = new Entry(log)
    this.local = new LocalAdmission(parts.onStoreError, parts.maxUnchecked, ledgerNames, () => this.nowMs())
    this.breaker = new CircuitBreaker({
      timeoutMs: parts.timeoutMs,
      connected: () => client.status === 'ready',
      probe: async () => {
        const nowMs = await this.members.beat(this.letsIn)
        // A new master whose replicas do not follow it yet refuses the first charge.
        await replicated(client)
        return nowMs
      },
      catchUp: (answeredAtMs) => this.catchUp(answeredAtMs),
      opened: (cause) => this.begin(cause),
      closed: () => this.end(),
    })
  }

  /** Says that this process is there, before it asks for anything, and from then on every second. */
  async start(): Promise<void> {
    await this.members.beat(false)
    this.watch()
  }

  /**
   * Redis is away at the start: goes on as in any outage, on a share of the given number of processes.
   * @param knowsRules whether this process has declared rules; otherwise a local gate refuses, since it does not know the limits
   */
  startAway(cause: Error, knowsRules: boolean, enter: EnterNamespace): void {
    this.entry.isLeft(enter)
    this.local.knowsRules = knowsRules
    this.breaker.trip(cause)
    this.watch()
  }

  private watch(): void {
    const { client } = this.parts
    client.on('close', this.lost)
    client.on('ready', this.ready)
    void this.beatOn()
  }

  /** Whether the rules of the namespace are known here: not before Redis has been there, where the process has declared none. */
  get knowsRules(): boolean {
    return this.local.knowsRules
  }

  /** Calls a function when Redis goes away, once. @returns what ends that */
  whenAway(callback: () => void): () => void {
    this.awaitingOutage.add(callback)
    return () => this.awaitingOutage.delete(callback)
  }

  /** @param readRules takes over the rules that Redis has */
  followRules(readRules: () => Promise<void>): void {
    this.entry.readRules = readRules
  }

  /** @param blockedMs for how long an agent, endpoint and model are blocked, as far as this process has heard */
  followBlocks(blockedMs: (value: string) => number): void {
    this.local.blockedMs = blockedMs
  }

  /** What Redis is told when it is there again; at once, behind what else it is told, where it is there already. */
  defer(...[kind, send]: Parameters<DeferredSettlements['add']>): void {
    this.deferred.add(kind, send)
    if (!this.breaker.away) this.takeInSoon()
  }

  /** Ends a call in Redis: settled, or released where it has no settlement. Sends nothing yet. */
  ending(request: AdmissionRequest, settled?: Settled): () => Promise<unknown> {
    const { scriptClient } = this.parts
    const send = (): Promise<unknown> =>
      settled === undefined ? scriptClient.release(request) : scriptClient.settle([{ request, actual: settled.actual }], settled.how)
    return () => this.breaker.within(send())
  }

  /** The time by which scripts would decide: about Redis', also while it is away, or the given one. */
  nowMs(): number {
    const { clock } = this.parts
    return clock.forScripts() === '' ? this.members.nowMs() : approximateMs(clock)
  }

  /** Whether Redis takes what gives room back, though nothing else: it has no memory left. */
  get takesReleases(): boolean {
    return isOutOfMemory(this.breaker.cause)
  }

  /** These calls were answered here, but had been sent: Redis may charge them later. Each counts once. */
  late(given: readonly BatchedAdmission[], sent: Promise<readonly BatchedAdmission[]>): void {
    const resolved: Promise<void> = sent
      .then(
        (real) => {
          for (const [n, one] of real.entries()) {
            const here = given[n]
            // A call whose id another call had here was told so: Redis keeps no charge of it.
            if (!(one instanceof Error) && one.decision.outcome === 'run') this.undo(one.request, here instanceof Error ? undefined : here)
          }
        },
        // The batch was refused as a whole, or never sent.
        () => {},
      )
      .finally(() => this.unresolved.delete(resolved))
    this.unresolved.add(resolved)
  }

  figures(): OutageFigures {
    const { state, local } = this
    const { metered, refused } = local.counts
    return {
      away: this.breaker.away,
      awayMs: state.kind === 'away' ? performance.now() - state.sinceMs : null,
      outages: this.outages,
      metered,
      unchecked: local.unchecked.total,
      refused,
      owed: this.deferred.size + this.unresolved.size + (local.journal.empty ? 0 : 1),
    }
  }

  /** Leaves the fleet. What a Redis that is away was not told is lost, and logged. */
  async close(): Promise<void> {
    this.left.abort()
    const { client, log } = this.parts
    client.off('close', this.lost)
    client.off('ready', this.ready)
    this.breaker.stop()
    const { owed } = this.figures()
    if (owed > 0) log.warn({ owed }, 'closed while Redis is away: what was used meanwhile is not charged')
    if (!this.breaker.away && client.status === 'ready') await this.breaker.within(this.members.leave()).catch(() => {})
  }

  private async beatOn(): Promise<void> {
    const { signal } = this.left
    while (!signal.aborted) {
      await sleep(DEFAULTS.beatMs, undefined, { ref: false, signal }).catch(() => {})
      if (signal.aborted || this.breaker.away || this.parts.client.status !== 'ready') continue
      await this.breaker.watch(() => this.members.beat(false)).catch(() => {})
    }
  }

  private begin(cause: Error): void {
    const { share, others } = this.members
    this.outages++
    this.state = { kind: 'away', sinceMs: performance.now(), others }
    // What was let in between the last report of an outage before this one and its end.
    this.report()
    this.local.begin(share)
    followerOf(this.parts.client)?.suspect(this.parts.client, () => !this.breaker.away || this.left.signal.aborted)
    const awaiting = [...this.awaitingOutage]
    this.awaitingOutage.clear()
    for (const callback of awaiting) callback()
    this.parts.log.warn({ cause: cause.message, onStoreError: this.parts.onStoreError, processes: share.of }, 'Redis is away; checks are answered without it')
  }

  private end(): void {
    const { state, local } = this
    const awayMs = state.kind === 'away' ? Math.round(performance.now() - state.sinceMs) : 0
    this.state = { kind: 'there' }
    this.parts.log.warn({ awayMs, ...local.counts, unchecked: local.unchecked.total }, 'Redis is back')
    if (this.owes) this.takeInSoon()
  }

  /** Redis is there. What is deferred while this runs is sent by it, too. */
  private takeInSoon(): void {
    this.takingIn ??= this.takeIn().then(
      () => {
        this.takingIn = undefined
        // Deferred between the last look at the list and now.
        if (this.owes && !this.breaker.away) this.takeInSoon()
      },
      (error: unknown) => {
        this.takingIn = undefined
        this.notTakenIn(error)
      },
    )
  }

  private get owes(): boolean {
    return this.deferred.size > 0 || !this.local.journal.empty
  }

  private notTakenIn(error: unknown): void {
    if (isStoreError(error)) this.breaker.trip(error)
    else this.parts.log.error({ err: error }, 'what an outage has left could not be sent')
  }

  /** Whether calls were let in here, or may have been by the others of the fleet. */
  private get letsIn(): boolean {
    return this.parts.onStoreError !== 'closed' || !this.local.journal.empty
  }

  /** Redis charged a call after all that was answered here. */
  private undo(real: AdmissionRequest, given: Admission | undefined): void {
    const letIn = given?.decision.outcome === 'run'
    if (real.forGood === true) {
      // A charge for good cannot be given back there: it is not reported instead.
      if (letIn) this.local.journal.chargedByRedis(given.request, given.decision.atMs)
    } else if (letIn || real.call.id === undefined) this.defer('release', this.ending(real))
    // Otherwise this process refused the call, and Redis charged it under its id: a repeated admit finds the entry.
  }

  /** @param answeredAtMs when Redis answered first, by its own clock */
  private async catchUp(answeredAtMs: number): Promise<void> {
    const { breaker, members, letsIn, state } = this
    const entered = await this.entry.enter()
    if (entered) this.local.knowsRules = true
    await this.takeIn()
    // Those of a process that comes up without Redis are known now.
    const others = entered ? members.others : state.kind === 'away' ? state.others : []
    const report = async () => {
      await breaker.within(members.beat(false))
      await this.takeIn()
    }
    if (letsIn) await this.regroup.wait(others, answeredAtMs, report)
    await this.takeIn()
  }

  /** Sends one report. To repeat it until nothing is left would never end while calls are admitted. */
  private async takeIn(): Promise<void> {
    await this.breaker.within(Promise.all(this.unresolved))
    this.report()
    await this.deferred.send()
  }

  private report(): void {
    if (this.local.journal.empty) return
    const { client, scriptClient, clock, ledgerNames } = this.parts
    const { meters, open } = this.local.journal.report()
    for (let from = 0; from < Math.max(meters.length, open.length); from += REPORTED_AT_ONCE) {
      const part = { meters: meters.slice(from, from + REPORTED_AT_ONCE), open: open.slice(from, from + REPORTED_AT_ONCE) }
      const name = ledgerNames.next()
      this.deferred.add('report', () => this.breaker.within(mergeUsage(client, scriptClient.keys, clock, name, part)))
    }
  }
}

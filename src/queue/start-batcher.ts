import { randomUUID } from 'node:crypto'
import { DelayedError } from 'bullmq'
import type { Logger } from 'pino'
import { type CallRequest, type MeterRef, type Settlement, weightOf } from '../admission/request.js'
import { keepsLows } from '../limits/algorithms.js'
import { type ActualCosts, AS_ESTIMATED } from '../model/cost.js'
import type { Decision } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import { approximateMs } from '../model/time.js'
import { retrying } from '../redis/bounded-wait.js'
import { isStoreError } from '../redis/store-error.js'
import type { LedgerNames } from '../store/ledger-names.js'
import { Batcher } from '../store/redis/batcher.js'
import { type BareDecision, isBare, SumsReply } from '../store/redis/decoder.js'
import type { ScriptClient } from '../store/redis/script-client.js'
import type { Sender } from '../store/redis/sending.js'
import { SumsEncoder } from '../store/redis/sums-encoder.js'
import { SumsMarks } from '../store/redis/sums-marks.js'
import { heldBy } from './stored-call.js'
import type { ResolvedDecision } from './strategy-resolver.js'

/** So many steps of one turn travel before the turn is over. */
const FULL_STEPS = 32
/** What travels in a batch: the start of a call, or the end of another one. */
type Step = { readonly start: CallRequest } | { readonly end: Settlement }
type StartResult = ResolvedDecision | { readonly failure: unknown }

/**
 * Sends the starts and the ends of a worker's calls to Redis, many in one script call.
 *
 * Why ends travel with starts. In a busy worker each end of a call makes place for a start, and both mostly meet the same meters. In one script call
 * each of these meters is read once and written once, for one round trip. The script settles the ends first, so a start finds the room that an end of
 * its batch gives back. Ends without a start beside them are sent by the script `settle`.
 *
 *     end of call 1 ┐
 *     end of call 2 ├─ one turn of the event loop ─▶ start script: settle 1 and 2, decide 3 and 4 ─▶ decisions
 *     start of 3    │                                         │
 *     start of 4    ┘                        'again': 4 has to join a line ─▶ sent again with its call
 *
 * A start waits for its decision; an end does not: the job of the call completes meanwhile. A start without
 * room is answered 'again' and sent a second time together with its call, which is kept beside its place in
 * line; so is one that holds a claim or a place at what is none of its meters any more, with the keys of those.
 * Most starts have room or a pass, so most are sent once, and without the call.
 *
 * All starts of a batch share one ledger of a new name. Their request then names ledger and place, which is what the settlement needs.
 *
 * If something is lost here:
 * - the process dies before an end is sent: the ledger entry ends after a day, the estimate stays charged, and
 *   a slot comes back when its lease ends.
 * - the reply to a batch is lost with its connection: ioredis sends the same command again. The script finds
 *   each start under its place in the ledger, which charges it once, and each end with its entry closed. It
 *   knows the batch by its number: starts of it that were not charged are answered 'again', and sent anew. So a
 *   copy that arrives after its worker has an answer starts nothing.
 * - the job is another worker's by then (its lock has ended): the script answers 'lost', and nothing is
 *   charged; a charge of the same start whose reply was lost goes back.
 * - Redis has no memory left: it refuses starts, and with them the script call. The ends are then sent alone,
 *   since the script `settle` is accepted and gives memory back.
 */
export class StartBatcher {
  /** Ends that Redis has not taken yet. */
  private readonly unsettled = new Set<Promise<unknown>>()
  private readonly batcher: Batcher<Step, StartResult | undefined>
  private closing = false
  private readonly sender: Sender
  /** Undefined where no batch is decided on sums. */
  private readonly marks: SumsMarks | undefined

  constructor(
    private readonly scriptClient: ScriptClient,
    private readonly log: Logger,
    private readonly ledgerNames: LedgerNames,
    decideOnSums = true,
  ) {
    this.marks = decideOnSums ? new SumsMarks() : undefined
    let sent = 0
    this.sender = { name: randomUUID(), next: () => ++sent }
    this.batcher = new Batcher(
      DEFAULTS.batchKeys,
      (step) => weightOf('start' in step ? step.start : step.end.request),
      (steps) => this.send(steps),
      FULL_STEPS,
    )
  }

  async start(request: CallRequest): Promise<ResolvedDecision> {
    const result = (await this.batcher.add({ start: request })) as StartResult
    if ('failure' in result) throw result.failure
    return result
  }

  /**
   * Settles a call that has ended, without keeping its caller waiting.
   * @param asEstimated whether the call is still charged what it was estimated at: nothing was settled while it ran
   * @param watched whether its end matters to the block of its agent
   */
  settle(request: CallRequest, actual: ActualCosts, { asEstimated = true, watched = false } = {}): void {
    const end = trimmed({ request, actual }, asEstimated, watched)
    this.untilTaken(request, () => this.batcher.add({ end }))
  }

  /** The same for a call whose handler goes on: it keeps its slots until `freeSlots`. */
  settleCost(request: CallRequest, actual: ActualCosts, watched: boolean): void {
    const end = trimmed({ request, actual }, false, watched)
    this.untilTaken(request, () => this.scriptClient.settle([end], 'cost'))
  }

  freeSlots(request: CallRequest): void {
    this.untilTaken(request, () => this.scriptClient.settle([{ request, actual: AS_ESTIMATED }], 'slots'))
  }

  /** Tells Redis of an end until it takes it. */
  private untilTaken(request: CallRequest, send: () => Promise<unknown>): void {
    const settled: Promise<unknown> = retrying(send, (error) => {
      // A worker that closes does not wait for a Redis that refuses.
      if (this.closing) throw new Error('the worker was closed while Redis refused', { cause: error })
    })
      .catch((error: unknown) =>
        this.log.error({ err: error, call: request.id }, 'a call could not be settled; its estimate stays charged, its slots end with their leases'),
      )
      .finally(() => this.unsettled.delete(settled))
    this.unsettled.add(settled)
  }

  /** Resolves when every call that has ended is settled. */
  async close(): Promise<void> {
    this.closing = true
    while (this.unsettled.size > 0) await Promise.all(this.unsettled)
  }

  private async send(steps: readonly Step[]): Promise<(StartResult | undefined)[]> {
    const ends = steps.flatMap((step) => ('end' in step ? [step.end] : []))
    const starts = steps.flatMap((step) => ('start' in step ? [step.start] : []))
    if (starts.length === 0) {
      await this.scriptClient.settle(ends)
      return steps.map(() => undefined)
    }
    const results = await this.decide(starts, ends).catch(async (error: unknown) => {
      if (!isStoreError(error) || ends.length === 0) throw error
      await this.scriptClient.settle(ends)
      return starts.map(() => ({ failure: error }))
    })
    let next = 0
    return steps.map((step) => ('start' in step ? results[next++] : undefined))
  }

  private async decide(starts: readonly CallRequest[], ends: readonly Settlement[]): Promise<StartResult[]> {
    const requests = this.withLedger(starts)
    const onSums = await this.startOnSums(requests, ends)
    if (onSums instanceof SumsReply) return requests.map((request) => ({ request, decision: onSums.run(request) }))
    const decisions = await this.scriptClient.start(requests, onSums === 'untried' ? ends : [], false, this.sender)
    const resultsAgain = await this.startComplete(starts.filter((_, index) => decisions[index]?.outcome === 'again'))
    let next = 0
    return requests.map((request, index) => {
      const decision = decisions[index] as Decision | BareDecision
      return decision.outcome === 'again' ? (resultsAgain[next++] as StartResult) : this.resultOf(request, decision)
    })
  }

  /**
   * Starts all of these at once where all are newcomers and have room: see `lua/start-sums.lua`. Where they are refused so, the ends are settled all the
   * same; sent again with the same ledger, a start whose reply was lost is found there.
   */
  private async startOnSums(requests: readonly CallRequest[], ends: readonly Settlement[]): Promise<SumsReply | 'refused' | 'untried'> {
    const { marks, scriptClient } = this
    if (marks?.next() !== true) return 'untried'
    const encoder = new SumsEncoder(scriptClient.keys, approximateMs(scriptClient.clock), marks.isTight)
    for (const request of requests) if (!encoder.addStart(request)) return 'untried'
    const reply = await scriptClient.startSums(encoder, ends, requests[0]?.ledger as string, this.sender)
    if (reply instanceof SumsReply) {
      marks.fitted()
      return reply
    }
    marks.refused(reply)
    return 'refused'
  }

  private resultOf(request: CallRequest, decision: Decision | BareDecision): StartResult {
    if (!isBare(decision)) return { request, decision }
    if (decision.outcome !== 'lost') throw new Error(`a start was answered "${decision.outcome}"`)
    this.log.warn({ call: request.id }, 'the job of a call was lost before its start: another worker starts it')
    // The start may have been charged before, and the reply lost.
    this.untilTaken(request, () => this.scriptClient.release(request))
    return { failure: new DelayedError() }
  }

  /**
   * Sends starts together with their calls, and with the keys of what the calls hold, which may be none of their meters any more. A failure is
   * theirs alone: the other starts of their batch were decided. Calls that are answered 'again' once more were in a batch that a connection has sent
   * twice, which Redis takes for a late copy: they travel in a new one.
   */
  private async startComplete(starts: readonly CallRequest[]): Promise<StartResult[]> {
    const results: StartResult[] = []
    let left = starts.map((start, index) => ({ start, index }))
    try {
      while (left.length > 0) {
        const records = await this.scriptClient.recordsOf(left.map(({ start }) => start.id))
        const requests = this.withLedger(left.map(({ start }, n) => ({ ...start, held: heldBy(records[n] ?? null) })))
        const decisions = (await this.scriptClient.start(requests, [], true, this.sender)) as readonly (Decision | BareDecision)[]
        for (const [n, { index }] of left.entries())
          if (decisions[n]?.outcome !== 'again') results[index] = this.resultOf(requests[n] as CallRequest, decisions[n] as Decision | BareDecision)
        left = left.filter((_, n) => decisions[n]?.outcome === 'again')
      }
    } catch (error) {
      for (const { index } of left) results[index] = { failure: error }
    }
    return results
  }

  private withLedger(starts: readonly CallRequest[]): CallRequest[] {
    const ledger = this.ledgerNames.next()
    return starts.map((request, index) => ({ ...request, token: String(index), ledger }))
  }
}

/**
 * Leaves out the meters that a settlement cannot change: where the cost is as estimated, no slot is held, and no bucket counts its open calls; and the
 * block, unless the call is watched.
 */
function trimmed({ request, actual }: Settlement, asEstimated: boolean, watched: boolean): Settlement {
  const matters = ({ rule }: MeterRef) =>
    rule.kind === 'upstream'
      ? watched
      : !asEstimated ||
        rule.limits.some((limit) => {
          const { unit } = limit
          return unit === 'concurrency' || keepsLows(limit) || (actual[unit] ?? request.costs[unit]) !== request.costs[unit]
        })
  return { actual, request: { ...request, meters: request.meters.filter(matters) } }
}

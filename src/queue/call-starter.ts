import { setTimeout as sleep } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import type { CallRequest } from '../admission/request.js'
import { type ActualCosts, NOTHING } from '../model/cost.js'
import type { RejectDecision } from '../model/decision.js'
import type { Outage } from '../outage/outage.js'
import { retrying } from '../redis/bounded-wait.js'
import type { ScriptClient } from '../store/redis/script-client.js'
import type { Store } from '../store/store.js'
import type { CallMetrics } from '../telemetry/call-metrics.js'
import type { StartBatcher } from './start-batcher.js'
import { leave } from './stored-call.js'
import type { ResolvedDecision } from './strategy-resolver.js'

/** How often a call that is held while Redis is away asks again for its share. */
const SOONEST_MS = 20
const LATEST_MS = 1000

/** The attempt that a start is for. */
export interface Starting {
  /** Its request under the rules that are in force now. */
  readonly fresh: () => Promise<CallRequest>
  /** Repeats what Redis refuses, as long as the attempt goes on. */
  readonly retrying: <T>(work: () => Promise<T>) => Promise<T>
  /** Throws where the attempt does not go on. */
  readonly check: () => void
  /** Is told that Redis is away, and this process has no room for the call. @throws where the call does not wait for that */
  readonly refused?: ((decision: RejectDecision) => void) | undefined
}

/**
 * Starts the calls of a worker, and settles them: in Redis, or while that is away as `onStoreError` says.
 *
 * Model. A job that the worker has taken is started by the start script (StartBatcher). When the breaker opens, each start that waits for its answer, and
 * each that comes then, is decided on here as the gate decides (LocalAdmission): it runs under this process's share of the limits, or unchecked, and is
 * entered in the journal; where it may not, the worker holds it and asks again.
 *
 *     start ── Redis answers ──────────────────────────────────▶ its decision
 *        └── away ──▶ let in here ──▶ run; what Redis holds for it is given back when it is there
 *                 └── closed, or no room in the share: held ──▶ asked again, or Redis is back ──▶ its decision
 *                     (a held call that does not wait for room is refused: HeldCalls)
 *
 * A start that was sent and is decided on here may still be executed: `undo` waits for its answer and gives the charge, or the place, back. The pass or
 * place that the call had before goes back with the ends of the outage. Of a call that runs the end is told to the store of the gate, which knows whether
 * it stands in the journal or, after the report, in Redis.
 *
 * If the process dies while a call that was let in here runs: the call is not charged in Redis, and its job is given to another worker when its lock ends,
 * as after any death. The agent has seen both.
 */
export class CallStarter {
  /** Calls that were let in here. */
  private readonly letIn = new WeakSet<CallRequest>()
  /** What calls have cost whose callers were answered, and whose handlers go on. */
  private readonly costs = new WeakMap<CallRequest, ActualCosts>()
  private readonly ending = new Set<Promise<unknown>>()

  constructor(
    private readonly parts: {
      readonly batcher: StartBatcher
      readonly outage: Outage
      /** That of the gate: it goes on while Redis is away. */
      readonly store: Store
      readonly scriptClient: ScriptClient
      readonly redis: Redis
      readonly metrics: CallMetrics
    },
  ) {}

  async start(starting: Starting): Promise<ResolvedDecision> {
    const sinceMs = performance.now()
    const decided = await this.decide(starting)
    this.parts.metrics.decided('start', decided.request, decided.decision, sinceMs)
    return decided
  }

  private async decide(starting: Starting): Promise<ResolvedDecision> {
    const { batcher, outage } = this.parts
    let over = false
    const send = () =>
      starting.retrying(async () => {
        const request = await starting.fresh()
        // It was decided on here meanwhile.
        if (over) throw new Error('this start is not needed any more')
        return batcher.start(request)
      })
    let sent: Promise<ResolvedDecision> | undefined
    for (;;) {
      if (!outage.breaker.away) {
        sent ??= send()
        const decided = await unlessAway(sent, outage)
        if (decided !== undefined) return decided
      }
      starting.check()
      const request = await starting.fresh()
      // Redis came back meanwhile: what is let in here now would be reported after the outage only.
      if (!outage.breaker.away) continue
      const admitted = this.admit(request)
      if ('request' in admitted) {
        over = true
        this.giveBack(request, sent)
        return admitted
      }
      try {
        starting.refused?.(admitted)
      } catch (error) {
        over = true
        this.giveBack(request, sent)
        throw error
      }
      const pause = sleep(Math.min(LATEST_MS, Math.max(SOONEST_MS, admitted.retryAfterMs ?? LATEST_MS)))
      const decided = await (sent === undefined ? pause : Promise.race([sent, pause]))
      if (decided !== undefined) return decided
    }
  }

  /** Whether a call was let in here, and not by Redis. */
  owns(request: CallRequest): boolean {
    return this.letIn.has(request)
  }

  settle(request: CallRequest, actual: ActualCosts, how: { asEstimated: boolean; watched: boolean }): void {
    if (this.owns(request)) this.end(request, actual)
    else this.parts.batcher.settle(request, actual, how)
  }

  /** The same for a call whose handler goes on: it keeps its slots until `freeSlots`. */
  settleCost(request: CallRequest, actual: ActualCosts, watched: boolean): void {
    if (this.owns(request)) this.costs.set(request, actual)
    else this.parts.batcher.settleCost(request, actual, watched)
  }

  freeSlots(request: CallRequest): void {
    if (this.owns(request)) this.end(request, this.costs.get(request) ?? NOTHING)
    else this.parts.batcher.freeSlots(request)
  }

  /** What a call has cost that goes on. */
  async settlePart(request: CallRequest, actual: ActualCosts): Promise<void> {
    if (this.owns(request)) await this.parts.store.settle(request, actual, 'part')
    else await this.parts.scriptClient.settle([{ request, actual }], 'part')
  }

  /** Resolves when every call that has ended is settled. */
  async close(): Promise<void> {
    while (this.ending.size > 0) await Promise.all(this.ending)
    await this.parts.batcher.close()
  }

  /** Lets a call in. @returns what refuses it, where it may not */
  private admit(request: CallRequest): ResolvedDecision | RejectDecision {
    const { local } = this.parts.outage
    // A name of its own: under that of its record Redis keeps its pass, or its place.
    const asked: CallRequest = { ...request, id: '', token: '', ledger: undefined, call: { ...request.call, id: undefined } }
    const seen = local.peek(asked)
    if (seen.outcome === 'reject') return seen
    const { request: named, decision } = local.admit(asked)
    if (decision.outcome === 'reject') return decision
    // The journal finds the call by this object.
    const admitted = named as CallRequest
    this.letIn.add(admitted)
    return { request: admitted, decision }
  }

  private giveBack(request: CallRequest, sent: Promise<ResolvedDecision> | undefined): void {
    const { batcher, outage } = this.parts
    outage.defer('release', () => outage.breaker.within(this.release(request)))
    sent?.then(
      async ({ request: real, decision }) => {
        if (decision.outcome === 'run' || decision.outcome === 'degrade')
          batcher.settle(real, NOTHING, { asEstimated: false, watched: decision.watched === true })
        else
          await retrying(
            () => this.release(request),
            () => {},
          )
      },
      // It was refused, or never sent.
      () => {},
    )
  }

  /**
   * Gives back the pass or the place of a call, unless its job is another worker's by now: then they are that one's. The lock of a job ends with it, which
   * may happen between the look at the job and the release: the release is refused then, and the second look finds the job ended.
   */
  private async release(request: CallRequest): Promise<void> {
    const { redis, scriptClient } = this.parts
    for (let look = 0; look < 2; look++) {
      const [name = null, finishedOn = null] = await redis.hmget(scriptClient.keys.job(request.id), 'name', 'finishedOn')
      const hasEnded = name === null || finishedOn !== null
      const held = await leave(scriptClient, hasEnded ? { ...request, lock: undefined } : request)
      if (held !== '-' || hasEnded) return
    }
  }

  private end(request: CallRequest, actual: ActualCosts): void {
    const told = new Promise((resolve) => resolve(this.parts.store.settle(request, actual, 'end')))
    const ending: Promise<unknown> = told
      // Too many ends wait already: the estimate stays charged.
      .catch(() => {})
      .finally(() => this.ending.delete(ending))
    this.ending.add(ending)
  }
}

/** What Redis decides; undefined where it is away first. */
function unlessAway(sent: Promise<ResolvedDecision>, outage: Outage): Promise<ResolvedDecision | undefined> {
  return new Promise((resolve, reject) => {
    const leaveList = outage.whenAway(() => resolve(undefined))
    sent.then(
      (decided) => {
        leaveList()
        resolve(decided)
      },
      (error: unknown) => {
        leaveList()
        reject(error)
      },
    )
  })
}

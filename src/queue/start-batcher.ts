import type { Logger } from 'pino'
import { type CallRequest, type MeterRef, type Settlement, weightOf } from '../admission/request.js'
import type { ActualCosts } from '../model/cost.js'
import type { Decision } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import { persist } from '../redis/bounded-wait.js'
import { isStoreError } from '../redis/store-error.js'
import type { LedgerNames } from '../store/ledger-names.js'
import { Batcher } from '../store/redis/batcher.js'
import type { ScriptClient } from '../store/redis/script-client.js'

/** A decision about a start, and the call as it stands in the ledger if it starts. */
export interface Started {
  readonly request: CallRequest
  readonly decision: Decision
}

/** A call whose start could not be decided. */
interface Failed {
  readonly failure: unknown
}

type Request = { readonly start: CallRequest } | { readonly end: Settlement }

/**
 * A worker's way through the gate: the ends of calls travel with the starts of the next,
 * so that meters both share are read and written once.
 *
 * A settlement does not keep its job waiting. What if it is lost with its process: the
 * ledger entry ends by itself, the estimate stays charged and the slot comes back with
 * its lease. What if only its answer is lost: sent again it finds its entry closed.
 */
export class StartBatcher {
  private readonly scriptClient: ScriptClient
  private readonly log: Logger
  private readonly ledgerNames: LedgerNames
  private readonly open = new Set<Promise<unknown>>()
  private closing = false
  private readonly turn: Batcher<Request, Started | Failed | undefined>

  constructor(scriptClient: ScriptClient, log: Logger, ledgerNames: LedgerNames) {
    this.ledgerNames = ledgerNames
    this.scriptClient = scriptClient
    this.log = log
    this.turn = new Batcher(
      DEFAULTS.batchKeys,
      (request) => weightOf('start' in request ? request.start : request.end.request),
      (requests) => this.send(requests),
    )
  }

  async start(request: CallRequest): Promise<Started> {
    const started = (await this.turn.ask({ start: request })) as Started | Failed
    if ('failure' in started) throw started.failure
    return started
  }

  /**
   * Settles a call that has ended; resolves nothing, fails nothing: see above.
   * @param asEstimated whether it is still charged what it was estimated at: nothing was said while it ran
   * @param watched whether its end matters to the block of its agent
   */
  settle(request: CallRequest, actual: ActualCosts, { asEstimated = true, watched = false } = {}): void {
    const end = trimmed({ request, actual }, asEstimated, watched)
    // A Redis that refuses is asked again, also while the worker closes, but then once more only.
    const settled: Promise<unknown> = persist(
      () => this.turn.ask({ end }),
      (error) => {
        if (this.closing) throw new Error('the worker was closed while Redis refused', { cause: error })
      },
    ).then(
      () => this.open.delete(settled),
      (error: unknown) => {
        this.open.delete(settled)
        this.log.error({ err: error, call: request.id }, 'a call could not be settled; its estimate stays charged')
      },
    )
    this.open.add(settled)
  }

  /** Resolves when everything said so far is settled. */
  async close(): Promise<void> {
    this.closing = true
    while (this.open.size > 0) await Promise.all(this.open)
  }

  private async send(requests: readonly Request[]): Promise<(Started | Failed | undefined)[]> {
    const ended = requests.flatMap((request) => ('end' in request ? [request.end] : []))
    const starts = requests.flatMap((request) => ('start' in request ? [request.start] : []))
    if (starts.length === 0) {
      await this.scriptClient.settle(ended)
      return requests.map(() => undefined)
    }
    const decided = await this.decide(starts, ended).catch(async (error: unknown) => {
      if (!isStoreError(error) || ended.length === 0) throw error
      // A Redis that is out of memory takes ends, but not together with starts.
      await this.scriptClient.settle(ended)
      return starts.map(() => ({ failure: error }))
    })
    let next = 0
    return requests.map((request) => ('start' in request ? decided[next++] : undefined))
  }

  private async decide(starts: readonly CallRequest[], ended: readonly Settlement[]): Promise<(Started | Failed)[]> {
    const entered = this.enter(starts)
    const decisions = await this.scriptClient.start(entered, ended, false)
    // Most calls run at once or are in line already; those that have to join one are sent along for it.
    const again = this.enter(starts.filter((_, index) => decisions[index]?.outcome === 'again'))
    const decidedAgain = again.length === 0 ? [] : await this.standInLine(again)
    let next = 0
    return entered.map((request, index) =>
      decisions[index]?.outcome === 'again' ? (decidedAgain[next++] as Started | Failed) : { request, decision: decisions[index] as Decision },
    )
  }

  /** Fails for these alone: the others of their batch have started. */
  private async standInLine(again: readonly CallRequest[]): Promise<(Started | Failed)[]> {
    try {
      const decisions = await this.scriptClient.start(again, [], true)
      return again.map((request, index) => ({ request, decision: decisions[index] as Decision }))
    } catch (error) {
      return again.map(() => ({ failure: error }))
    }
  }

  /** Gives the calls of one batch their places in its ledger, which no other batch opens. */
  private enter(starts: readonly CallRequest[]): CallRequest[] {
    const ledger = this.ledgerNames.next()
    return starts.map((request, index) => ({ ...request, token: String(index), ledger }))
  }
}

/** Leaves out the meters that a settlement cannot change: where the cost is as estimated and no slot is held; the block where nothing was said. */
function trimmed(settlement: Settlement, asEstimated: boolean, watched: boolean): Settlement {
  const { request, actual } = settlement
  const matters = ({ rule }: MeterRef) =>
    rule.kind === 'upstream'
      ? watched
      : !asEstimated || rule.limits.some(({ unit }) => unit === 'concurrency' || (actual[unit] ?? request.costs[unit]) !== request.costs[unit])
  const meters = request.meters.filter(matters)
  return { actual, request: { ...request, meters } }
}

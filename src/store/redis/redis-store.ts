import type { Redis } from 'ioredis'
import { idTaken } from '../../admission/identity.js'
import { type AdmissionRequest, weightOf } from '../../admission/request.js'
import type { ActualCosts } from '../../model/cost.js'
import type { RejectDecision, RunDecision } from '../../model/decision.js'
import { DEFAULTS, UNKNOWN_ACTOR } from '../../model/defaults.js'
import { TollgateError } from '../../model/errors.js'
import { withoutArguments } from '../../model/secrets.js'
import { approximateMs, type Clock, DAY, HOUR } from '../../model/time.js'
import type { Observation, UpstreamOutcome, UpstreamReport, UpstreamStatus } from '../../model/upstream.js'
import { LedgerNames } from '../ledger-names.js'
import { type Admission, type LedgerFigures, overEstimatedPercent, type StateResult, type Store } from '../store.js'
import { Batcher } from './batcher.js'
import type { ScriptClient } from './script-client.js'
import type { GateDecision } from './sending.js'

/** An admission, or why that one of its batch is refused: its id is that of another call. */
export type BatchedAdmission = Admission | TollgateError

/** What is done around each script call: see `src/outage/outage-store.ts`. */
export interface SendGuard {
  admits(requests: readonly AdmissionRequest[], send: () => Promise<BatchedAdmission[]>): Promise<BatchedAdmission[]>
  peeks(requests: readonly AdmissionRequest[], send: () => Promise<GateDecision[]>): Promise<GateDecision[]>
}

const NOTHING_AROUND: SendGuard = { admits: (_, send) => send(), peeks: (_, send) => send() }

/** Sums up what `lua/lib/figures.lua` counts. */
function readFigures(counts: Readonly<Record<string, string>>, nowMs: number): LedgerFigures {
  const count = (name: string) => Number(counts[name] ?? 0)
  let open = 0
  let expired = count('expired')
  for (const name of Object.keys(counts)) {
    const [, hour] = /^open:(-?\d+)$/.exec(name) ?? []
    if (hour === undefined) continue
    // An entry that was opened in this hour may have a moment to live still.
    if ((Number(hour) + 1) * HOUR + DAY > nowMs) open += count(name)
    else expired += count(name)
  }
  const percent = overEstimatedPercent(count('estimated'), count('actual'))
  return { open, settled: count('settled'), released: count('released'), expired, overEstimatedPercent: percent }
}

/** Meters in Redis, for every process that shares it. What is asked in one turn of the event loop travels together. */
export class RedisStore implements Store {
  private readonly actor: string
  private readonly ledgerNames: LedgerNames
  private readonly admits: Batcher<AdmissionRequest, Admission>
  private readonly peeks: Batcher<AdmissionRequest, RunDecision | RejectDecision>

  /** @param options.actor who resets meters, as the audit says; options.around what guards each script call */
  constructor(
    private readonly scriptClient: ScriptClient,
    private readonly redis: Redis,
    private readonly clock: Clock,
    { actor = UNKNOWN_ACTOR, around = NOTHING_AROUND, ledgerNames = new LedgerNames() }: { actor?: string; around?: SendGuard; ledgerNames?: LedgerNames } = {},
  ) {
    this.actor = actor
    this.ledgerNames = ledgerNames
    this.admits = new Batcher<AdmissionRequest, Admission>(DEFAULTS.batchKeys, weightOf, (requests) => around.admits(requests, () => this.send(requests)))
    this.peeks = new Batcher<AdmissionRequest, RunDecision | RejectDecision>(DEFAULTS.batchKeys, weightOf, (requests) =>
      around.peeks(requests, () => scriptClient.decideEach('peek', requests)),
    )
  }

  admit(request: AdmissionRequest): Promise<Admission> {
    return this.admits.add(request)
  }

  peek(request: AdmissionRequest): Promise<RunDecision | RejectDecision> {
    return this.peeks.add(request)
  }

  async record(request: AdmissionRequest): Promise<Admission> {
    const [entered] = this.enter([request]) as [AdmissionRequest]
    const [decision] = (await this.scriptClient.decideEach('record', [entered])) as [GateDecision]
    if (decision instanceof TollgateError) throw decision
    return { request: entered, decision }
  }

  async settle(request: AdmissionRequest, actual: ActualCosts, how: 'end' | 'part'): Promise<boolean> {
    const [settled] = await this.scriptClient.settle([{ request, actual }], how)
    if (settled === 'taken') throw idTaken(request.call.id ?? request.id)
    return settled === true
  }

  async release(request: AdmissionRequest): Promise<boolean> {
    const held = await this.scriptClient.release(request)
    if (held === 'R') throw idTaken(request.call.id ?? request.id)
    return held === 'S'
  }

  reportUpstream(request: AdmissionRequest, report: UpstreamReport): Promise<UpstreamOutcome> {
    return this.scriptClient.reportUpstream(request, report)
  }

  upstreamStatus(requests: readonly AdmissionRequest[]): Promise<readonly UpstreamStatus[]> {
    return this.scriptClient.upstreamStatus(requests)
  }

  async observations(): Promise<readonly Observation[]> {
    const told = await this.redis.hgetall(this.scriptClient.keys.upstream)
    return Object.values(told).map((one) => JSON.parse(one) as Observation)
  }

  reset(request: AdmissionRequest, by: string = this.actor): Promise<void> {
    return this.scriptClient.reset(request, by)
  }

  compareAndSet(name: string, key: string, was: string, becomes: string, keepMs: number): Promise<StateResult> {
    return this.scriptClient.compareAndSet(this.scriptClient.keys.custom(name, key), was, becomes, keepMs)
  }

  async figures(): Promise<LedgerFigures> {
    const counts = await this.redis.hgetall(this.scriptClient.keys.figures).catch((error: unknown) => Promise.reject(withoutArguments(error)))
    return readFigures(counts, approximateMs(this.clock))
  }

  /** Checks that travel together share one ledger; one with an id of its own has its own entry, found by that id. */
  private enter(requests: readonly AdmissionRequest[]): AdmissionRequest[] {
    const ledger = this.ledgerNames.next()
    return requests.map((one, index) =>
      one.call.id !== undefined || one.forGood === true ? one : { ...one, id: `${ledger}.${index}`, token: String(index), ledger },
    )
  }

  private async send(requests: readonly AdmissionRequest[]): Promise<BatchedAdmission[]> {
    const entered = this.enter(requests)
    const decisions = await this.scriptClient.decideEach('check', entered)
    return entered.map((one, index) => {
      const decision = decisions[index] as GateDecision
      return decision instanceof Error ? decision : { request: one, decision }
    })
  }
}

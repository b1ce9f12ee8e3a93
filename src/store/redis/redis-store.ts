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
import { SumsReply } from './decoder.js'
import type { ScriptClient } from './script-client.js'
import type { GateDecision } from './sending.js'
import { SumsEncoder } from './sums-encoder.js'
import { SumsMarks } from './sums-marks.js'

const FULL_CHECKS = 64
/** An admission, or why that one of its batch is refused: its id is that of another call. */
export type BatchedAdmission = Admission | TollgateError

/** What is done around each script call: see `src/outage/outage-store.ts`. */
export interface SendGuard {
  admits(requests: readonly AdmissionRequest[], send: () => Promise<BatchedAdmission[]>): Promise<BatchedAdmission[]>
  peeks(requests: readonly AdmissionRequest[], send: () => Promise<GateDecision[]>): Promise<GateDecision[]>
}

const NOTHING_AROUND: SendGuard = { admits: (_, send) => send(), peeks: (_, send) => send() }

export interface RedisStoreOptions {
  /** Who resets meters, as the audit says. */
  readonly actor?: string
  /** What guards each script call. */
  readonly around?: SendGuard
  readonly ledgerNames?: LedgerNames
  /** Whether calls whose meters have plenty of room are decided on together, by the sums of their costs: `lua/lib/sums.lua`. Default true. */
  readonly decideOnSums?: boolean
}

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
  private readonly around: SendGuard
  private readonly ledgerNames: LedgerNames
  /** Undefined where no batch is decided on sums. */
  private readonly marks: SumsMarks | undefined
  private readonly admits: Batcher<AdmissionRequest, Admission>
  private readonly peeks: Batcher<AdmissionRequest, RunDecision | RejectDecision>

  constructor(
    private readonly scriptClient: ScriptClient,
    private readonly redis: Redis,
    private readonly clock: Clock,
    { actor = UNKNOWN_ACTOR, around = NOTHING_AROUND, ledgerNames = new LedgerNames(), decideOnSums = true }: RedisStoreOptions = {},
  ) {
    this.actor = actor
    this.around = around
    this.ledgerNames = ledgerNames
    this.marks = decideOnSums ? new SumsMarks() : undefined
    this.admits = new Batcher<AdmissionRequest, Admission>(DEFAULTS.batchKeys, weightOf, (requests) => this.send(requests), FULL_CHECKS)
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
    const [entered] = inLedger([request], this.ledgerNames.next()) as [AdmissionRequest]
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

  /** Sends a batch: on sums, what can be decided on so, and one by one the others of it. */
  private async send(requests: readonly AdmissionRequest[]): Promise<(BatchedAdmission | Error)[]> {
    const { marks, around } = this
    if (marks?.next() !== true) return around.admits(requests, () => this.sendEach(requests))
    const encoder = new SumsEncoder(this.scriptClient.keys, approximateMs(this.clock), marks.isTight)
    const isSummed = requests.map((request) => encoder.add(request))
    // Two script calls are worth their cost only where the first decides on most calls.
    if (encoder.size * 2 < requests.length) return around.admits(requests, () => this.sendEach(requests))
    if (encoder.size === requests.length) return around.admits(requests, () => this.sendSums(requests, encoder, marks))
    const [summed, others] = [requests.filter((_, index) => isSummed[index]), requests.filter((_, index) => !isSummed[index])]
    const [first, second] = await Promise.all([
      failingAlone(
        summed,
        around.admits(summed, () => this.sendSums(summed, encoder, marks)),
      ),
      failingAlone(
        others,
        around.admits(others, () => this.sendEach(others)),
      ),
    ])
    return isSummed.map((one) => (one ? first : second).next().value as BatchedAdmission | Error)
  }

  /** All of these on sums, or, where not all have room, one by one. If the first script call is sent twice, the second copy finds the ledger and is refused. */
  private async sendSums(requests: readonly AdmissionRequest[], encoder: SumsEncoder, marks: SumsMarks): Promise<BatchedAdmission[]> {
    const ledger = this.ledgerNames.next()
    const reply = await this.scriptClient.checkSums(encoder, ledger)
    if (reply instanceof SumsReply) {
      marks.fitted()
      return inLedger(requests, ledger).map((request) => ({ request, decision: reply.run(request) }))
    }
    marks.refused(reply)
    return this.sendEach(requests, ledger)
  }

  private async sendEach(requests: readonly AdmissionRequest[], ledger: string = this.ledgerNames.next()): Promise<BatchedAdmission[]> {
    const entered = inLedger(requests, ledger)
    const decisions = await this.scriptClient.decideEach('check', entered)
    return entered.map((one, index) => {
      const decision = decisions[index] as GateDecision
      return decision instanceof Error ? decision : { request: one, decision }
    })
  }
}

/** Checks that travel together share one ledger; one with an id of its own has its own entry, found by that id. */
function inLedger(requests: readonly AdmissionRequest[], ledger: string): AdmissionRequest[] {
  return requests.map((one, index) =>
    one.call.id !== undefined || one.forGood === true ? one : { ...one, id: `${ledger}.${index}`, token: String(index), ledger },
  )
}

/** The admissions of some requests; where they fail, that is the answer to these alone. */
async function failingAlone(requests: readonly AdmissionRequest[], admitted: Promise<BatchedAdmission[]>): Promise<Iterator<BatchedAdmission | Error>> {
  const all = await admitted.catch((error: Error) => requests.map(() => error))
  return all.values()
}

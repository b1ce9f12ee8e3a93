import { idTaken } from '../../admission/identity.js'
import { limitOf, resetOf } from '../../admission/rejection.js'
import type { AdmissionRequest, CallRequest, Settlement } from '../../admission/request.js'
import type { CompiledLimit } from '../../limits/compiled-limit.js'
import type { Decision, RejectDecision, RunDecision } from '../../model/decision.js'
import { TollgateError } from '../../model/errors.js'
import { approximateMs } from '../../model/time.js'
import { retentionOf } from '../../policy/policy.js'
import type { Script } from '../../redis/script.js'
import type { StateResult } from '../store.js'
import { type BareDecision, DecisionReply, DOUBLE, SumsReply } from './decoder.js'
import { BatchEncoder } from './encoder.js'
import { type Held, type PassOutcome, scripts } from './scripts.js'
import { type DecideOptions, type GateDecision, type Sender, storedCall } from './sending.js'
import type { SumsEncoder } from './sums-encoder.js'
import { UpstreamScripts } from './upstream-scripts.js'

/** The front of one line, as a dispatch looks at it. */
export interface LineFront {
  readonly key: string
  /** In the order they stand. */
  readonly calls: readonly CallRequest[]
}

/** How many calls of a queue one dispatch may wake. */
export interface QueueBudget {
  /** Calls that claim their room: a worker with a free place takes each at once. */
  readonly claimed: number
  /** Calls that are woken after those, without a claim. */
  readonly unclaimed: number
  /** Whether calls that it cannot take go to the line of the queue, out of the way of others. */
  readonly shut: boolean
}

export interface Dispatched {
  readonly nowMs: number
  readonly woken: readonly string[]
  /** Those of the woken calls that no room is kept for. */
  readonly unclaimed: readonly string[]
  /** Calls that have left their lines, since they have no job. */
  readonly dropped: readonly string[]
  /** Until the next line can move; null where no call waits. */
  readonly nextMs: number | null
  /** What became of the calls looked at, line by line. */
  readonly looks: readonly FrontLook[]
  /** Calls that went to another line, each with its key. */
  readonly moved: readonly (readonly [id: string, line: string])[]
}

export interface FrontLook {
  /** How many of the calls have left the line. */
  readonly left: number
  /** Whether the look ended at a call without room. If not, the calls behind those looked at may go, too. */
  readonly ended: boolean
}

/** The scripts over meters, lines and ledger, as functions: one call, one round trip, no state of its own. */
export class ScriptClient extends UpstreamScripts {
  /** The model that calls of this agent run with in degraded mode; undefined where it says none. */
  degradeTo(agent: string): string | undefined {
    const { degradeTo } = this.resolver.rules.policy
    return Object.hasOwn(degradeTo, agent) ? degradeTo[agent] : undefined
  }

  /**
   * Decides on calls that never stand in line, each by itself; in the place of one whose id is that of another call stands ID_TAKEN.
   * check: charges each at all of its meters, or refuses it. peek: what check would answer; changes nothing. record: charges what has happened already,
   * whether there is room or not.
   */
  async decideEach(how: 'check' | 'peek' | 'record', requests: readonly AdmissionRequest[]): Promise<GateDecision[]> {
    const decisions = await this.decide(scripts[how], requests, { onTheirWay: false })
    return decisions.map((decision, index) => {
      const { call, id } = requests[index] as AdmissionRequest
      return decision.outcome === 'taken' ? idTaken(call.id ?? id) : (decision as RunDecision | RejectDecision)
    })
  }

  /**
   * Charges all calls of an encoder at once on their sums.
   * @param ledger the name of their ledger: each has the place there of its number in the encoder
   * @returns where nothing was charged, the keys that stand in the way: none where calls stand in a line of this namespace
   */
  async checkSums(encoder: SumsEncoder, ledger: string): Promise<SumsReply | readonly string[]> {
    const { keys, args } = encoder.encode(ledger)
    const bytes = await scripts.checkSums.run(this.redis, keys, [this.now(), ...args])
    return readSums(bytes, encoder, (place) => keys[this.keys.fixed.length + place - 1] as string)
  }

  /** @throws ID_TAKEN where the id of any is that of another call; the others are charged */
  async check(requests: readonly AdmissionRequest[]): Promise<(RunDecision | RejectDecision)[]> {
    return (await this.decideEach('check', requests)).map(decidedOrThrow)
  }

  /** @throws ID_TAKEN where the id of any is that of another call */
  async peek(requests: readonly AdmissionRequest[]): Promise<(RunDecision | RejectDecision)[]> {
    return (await this.decideEach('peek', requests)).map(decidedOrThrow)
  }

  /** When calls start that wait: 'wait' of those in line, 'run' of others. @param lines the line that each stands in, '' = none */
  explain(requests: readonly CallRequest[], lines: readonly string[]): Promise<(Decision | BareDecision)[]> {
    return this.decide(scripts.explain, requests, { onTheirWay: true, lines, stored: lines.map((line) => (this.keys.isOwnLine(line) ? '1' : '0')) })
  }

  /** The front door: promises room or finds a place in line. @param queue that of all these calls */
  enqueue(requests: readonly CallRequest[], queue: string): Promise<(Decision | BareDecision)[]> {
    return this.decide(scripts.enqueue, requests, { onTheirWay: true, stored: requests.map(storedCall), queue })
  }

  /**
   * Settles calls that have ended, then starts others, in one script call.
   * @param kept whether the calls are sent along, to be kept beside their place in line;
   *   without them a newcomer that has to stand in line is answered 'again'
   * @param sender numbers the script calls of one worker in their order, so that a late copy is known as such
   */
  start(requests: readonly CallRequest[], ended: readonly Settlement[], kept: boolean, sender?: Sender): Promise<(Decision | BareDecision)[]> {
    return this.decide(scripts.start, requests, { onTheirWay: true, ended, stored: kept ? requests.map(storedCall) : [], sender })
  }

  /**
   * Settles calls that have ended, then starts all calls of an encoder at once on their sums.
   * @param ledger as in `checkSums`
   * @returns where none was started, the keys of meters that are tight; the ends are settled then, too
   */
  async startSums(starts: SumsEncoder, ended: readonly Settlement[], ledger: string, sender: Sender): Promise<SumsReply | readonly string[]> {
    const encoder = new BatchEncoder(this.keys, approximateMs(this.clock))
    // The meters of the starts come first: the reply has them in this order.
    const args = starts.encodeStarts(encoder, ledger)
    for (const settlement of ended) encoder.settle(settlement, true)
    encoder.numbered(sender.name, sender.next())
    const bytes = await scripts.startSums.run(this.redis, encoder.keys, [this.now(), encoder.batch(), ...args])
    return readSums(bytes, starts, (place) => encoder.meters[place - 1]?.keys[0] as string)
  }

  /** Sends calls in as few batches as their rules allow: nearly always one. */
  private async decide(
    script: Script<Buffer>,
    requests: readonly AdmissionRequest[],
    { onTheirWay, ended = [], stored = [], queue, lines = [], sender }: DecideOptions,
  ): Promise<(Decision | BareDecision)[]> {
    const decisions: (Decision | BareDecision)[] = []
    let from = 0
    do {
      const encoder = new BatchEncoder(this.keys, approximateMs(this.clock))
      let to = from
      while (to < requests.length && encoder.add(requests[to] as AdmissionRequest, onTheirWay)) to++
      if (from === 0) for (const settlement of ended) encoder.settle(settlement, true)
      if (sender !== undefined) encoder.numbered(sender.name, sender.next())
      const named = queue === undefined ? [] : [queue]
      if (queue !== undefined) {
        const jobs = requests.slice(from, to).map(({ id }) => this.keys.job(id))
        encoder.keys.push(this.keys.closedQueues, this.keys.queueLine(queue), ...jobs)
      }
      for (const line of lines.slice(from, to)) if (line !== '' && !encoder.keys.includes(line)) encoder.keys.push(line)
      const bytes = await script.run(this.redis, encoder.keys, [this.now(), encoder.batch(), ...named, ...stored.slice(from, to)])
      const reply = new DecisionReply(bytes, to - from, encoder.meters)
      for (let n = from; n < to; n++) {
        const request = requests[n] as AdmissionRequest
        const own = request.strategy ?? request.call.strategy
        decisions.push(reply.decision(n - from, request, own === 'waits' ? undefined : own))
      }
      from = to
    } while (from < requests.length)
    return decisions
  }

  /**
   * Says what started calls have cost; per call whether there was an entry open under its token, 'taken' where that under its id is another call's.
   * @param how 'end' closes the entries; 'part': the calls go on, what they have cost so far is charged; 'cost' closes the entries, and the calls keep
   *   their slots, since their handlers go on; 'slots' gives these back
   */
  async settle(settlements: readonly Settlement[], how: 'end' | 'part' | 'cost' | 'slots' = 'end'): Promise<(boolean | 'taken')[]> {
    const encoder = this.encode([], false)
    for (const settlement of settlements) encoder.settle(settlement, false)
    const settled = await scripts.settle.run(this.redis, encoder.keys, [this.now(), encoder.batch(), how])
    return settled.map((one) => (one === 2 ? 'taken' : one === 1))
  }

  /** Forgets what these meters have counted, and notes it in the audit. */
  async reset(request: AdmissionRequest, by: string): Promise<void> {
    const encoder = this.encode([{ ...request, forGood: true }], false)
    const { what, subject, limiters } = resetOf(request)
    const limits = request.meters.flatMap(({ rule }) => rule.limits.map(({ name }) => limitOf(rule.name, name)))
    const args = [this.now(), encoder.batch(), retentionOf(this.resolver.rules.policy), by, subject, what, limiters, ...limits]
    await scripts.reset.run(this.redis, [...encoder.keys, this.keys.audit, this.keys.resets], args)
  }

  /** Writes the state of a user's own algorithm; see `StateStore`. */
  async compareAndSet(key: string, was: string, becomes: string, keepMs: number): Promise<StateResult> {
    const [nowMs, written, state] = await scripts.compareAndSet.run(this.redis, [key], [this.now(), was, becomes, keepMs])
    return { nowMs: Number(nowMs), written: written === 1, state }
  }

  /**
   * Gives back all that a call holds.
   * @param lineKey the line the call stands in, where it is known to stand in one
   * @param identity of the call, where another call may wait under its id by now: that one keeps what it holds
   */
  async release(request: AdmissionRequest, lineKey = '', identity = ''): Promise<Held> {
    const encoder = this.encode([request], true)
    if (lineKey !== '' && !encoder.keys.includes(lineKey)) encoder.keys.push(lineKey)
    const [held = '-'] = await scripts.release.run(this.redis, encoder.keys, [this.now(), encoder.batch(), lineKey, identity])
    return held
  }

  /**
   * Wakes the calls at the front of the given lines that have room.
   * @param budgets by queue; calls of other queues are woken as room allows
   * @param looksAtJobs whether calls without a BullMQ job leave their lines
   */
  async dispatch(lines: readonly LineFront[], budgets: ReadonlyMap<string, QueueBudget> = new Map(), looksAtJobs = false): Promise<Dispatched> {
    const requests = lines.flatMap((line) => line.calls)
    const encoder = this.encode(requests, true)
    const declare = (key: string) => encoder.keys.indexOf(key) + 1 || encoder.keys.push(key)
    // A line whose rule is gone has no meter in the batch.
    const shapes = lines.map(({ key, calls }) => [declare(key), encoder.meterOfLine(key), calls.length, this.keys.isOwnLine(key) ? 1 : 0])
    const queues = [...budgets].map(([queue, { claimed, unclaimed, shut }]) => [claimed, unclaimed, shut ? 1 : 0, declare(this.keys.queueLine(queue))])
    const places = new Map([...budgets.keys()].map((queue, index) => [queue, index + 1]))
    const of = requests.map(({ id }) => places.get(id.slice(0, id.indexOf('/'))) ?? 0)
    const jobs = looksAtJobs ? encoder.keys.length + 1 : 0
    if (looksAtJobs) encoder.keys.push(...requests.map(({ id }) => this.keys.job(id)))
    const args = [this.now(), encoder.batch(), JSON.stringify({ lines: shapes, queues, of, jobs }), ...requests.map(storedCall)]
    const [nowMs, woken, nextMs, unclaimed, dropped, looks, moved] = await scripts.dispatch.run(this.redis, encoder.keys, args)
    return {
      nowMs: Number(nowMs),
      woken,
      unclaimed,
      dropped,
      nextMs: Number(nextMs) < 0 ? null : Number(nextMs),
      looks: looks.map(([left, ended]) => ({ left, ended: ended === 1 })),
      moved,
    }
  }

  /** Looks after passes that have not started; says what became of each. */
  reconcilePasses(passes: readonly { request: AdmissionRequest; seen: 'queued' | 'held' | 'missing' }[]): Promise<PassOutcome[]> {
    const requests = passes.map(({ request }) => request)
    const encoder = this.encode(requests, true)
    return scripts.reconcilePasses.run(this.redis, encoder.keys, [this.now(), encoder.batch(), ...passes.map(({ seen }) => seen)])
  }

  /** Takes calls out of their lines whose deadlines have passed; returns the ids of those that were in one. */
  expire(waiting: readonly { request: AdmissionRequest; line: string }[]): Promise<string[]> {
    const requests = waiting.map(({ request }) => request)
    const encoder = this.encode(requests, true)
    for (const { line } of waiting) if (line !== '' && !encoder.keys.includes(line)) encoder.keys.push(line)
    return scripts.expire.run(this.redis, encoder.keys, [this.now(), encoder.batch(), ...waiting.map(({ line }) => line)])
  }

  recordOf(id: string): Promise<string | null> {
    return this.redis.get(this.keys.call(id))
  }

  async recordsOf(ids: readonly string[]): Promise<(string | null)[]> {
    return ids.length === 0 ? [] : this.redis.mget(ids.map((id) => this.keys.call(id)))
  }

  /** Extends the leases of the slots that started calls hold, and takes back those that have ended where there is room. @returns the starts that hold a slot less */
  async renew(starts: readonly AdmissionRequest[]): Promise<AdmissionRequest[]> {
    const leases = new Map<string, { limit: CompiledLimit; names: string[] }>()
    const named = new Map<string, AdmissionRequest>()
    for (const start of starts) {
      const name = this.nameOfStart(start)
      named.set(name, start)
      for (const { key, limit } of slotsOf(start)) {
        const lease = leases.get(key) ?? { limit, names: [] }
        lease.names.push(name)
        leases.set(key, lease)
      }
    }
    if (leases.size === 0) return []
    const args = [...leases.values()].flatMap(({ limit, names }) => [limit.leaseMs, limit.capacity, JSON.stringify(names)])
    const lost = new Set(await scripts.renew.run(this.redis, [...leases.keys()], [this.now(), ...args]))
    return [...named].flatMap(([name, start]) => (lost.has(name) ? [start] : []))
  }

  /** Under which a start is charged by algorithms that remember charges one by one: `Charge.name_of` in `lua/lib/charge.lua`. */
  nameOfStart({ id, token, ledger }: AdmissionRequest): string {
    return `${token}|${ledger === undefined ? id : this.keys.ledger(ledger)}`
  }
}

/** What all calls were answered, or the keys that stood in the way. */
function readSums(bytes: Buffer, encoder: SumsEncoder, keyAt: (place: number) => string): SumsReply | string[] {
  if (bytes.readDoubleLE(0) >= 0) return new SumsReply(bytes, () => encoder.named())
  return Array.from({ length: bytes.length / DOUBLE - 1 }, (_, n) => keyAt(bytes.readDoubleLE((n + 1) * DOUBLE)))
}

function decidedOrThrow(decision: GateDecision): RunDecision | RejectDecision {
  if (decision instanceof TollgateError) throw decision
  return decision
}

/** The concurrency slots that a call holds while it runs. */
export function slotsOf({ meters }: AdmissionRequest): { key: string; limit: CompiledLimit }[] {
  return meters.flatMap(({ rule: { limits, active, keyed }, keys }) => {
    // What an override lifts holds no slot.
    const limit = limits.slice(0, active).find(({ unit }) => unit === 'concurrency')
    return limit === undefined ? [] : [{ key: keys[1 + keyed.indexOf(limit)] as string, limit }]
  })
}

import type { Redis } from 'ioredis'
import { idTaken } from '../admission/identity.js'
import { type AdmissionRequest, meterRequest } from '../admission/request.js'
import { type ActualCosts, COST_UNITS, type CostUnit, NOTHING } from '../model/cost.js'
import type { RejectDecision, RunDecision } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import { approximateMs, type Clock } from '../model/time.js'
import type { Keys } from '../redis/keys.js'
import { BatchEncoder } from '../store/redis/encoder.js'
import { scripts } from '../store/redis/scripts.js'
import type { LocalMeters, LocalRef, MeterUsage } from './local-meters.js'
import type { Share } from './outage-rule.js'

/** A call that was charged here, and has not ended. */
interface OpenCall {
  readonly request: AdmissionRequest
  /** Whether it goes on, and holds slots; else it was only recorded. */
  readonly runs: boolean
  readonly atMs: number
}

/** What a process has used while Redis was away. */
export interface UsageReport {
  readonly meters: readonly MeterUsage[]
  /** These are charged by themselves, and get entries and slots in Redis. */
  readonly open: readonly OpenCall[]
}

/**
 * What this process uses while Redis is away, counted once: by it calls are let in, and from it the report to Redis is made.
 *
 * Each meter counts this process's share of its limits. What the fleet had used when the outage
 * began is not known, so all of the limit counts as used, but a tenth, until it must have come back:
 *
 *     windows    │ a tenth of the share ──the window that had begun has passed──> the share
 *     buckets    │ begin nine tenths used, and fill at the share of their rate
 *     slots      │ begin leased; come free as leases end, or calls of this process
 *
 * So a fleet of any size stays within 1.1 times each limit, in any window. A bucket is not given a tenth and then its share, as a window is: at the
 * change, 0.9 bursts would come free at once. The meters are kept when an outage ends, so that one that follows has no second tenth.
 *
 * The report says of each meter how much more it holds than it would hold without the calls since the last report: what windows have let go is not
 * charged, and of a bucket what has come back since is charged only where the bucket in Redis cannot have filled twice. Calls that go on are charged
 * by themselves, since they end in Redis. After a report the journal goes on: it remembers what was reported, and counts it still when calls ask.
 *
 * If the process dies, what it has not reported is not charged: at most its share of each limit, and what was let in unchecked. If Redis answers a
 * report and the reply is lost, it is sent again under its name, which Redis knows by then.
 */
export class OutageJournal {
  private readonly open = new Map<string | AdmissionRequest, OpenCall>()
  /** Charged here, and by Redis after all. */
  private chargedTwice: OpenCall[] = []

  constructor(readonly meters: LocalMeters) {}

  get empty(): boolean {
    return this.meters.empty && this.open.size === 0
  }

  /** An outage begins. Everything that was used in an earlier one must have been reported. */
  begin(share: Share): void {
    this.meters.begin(share)
  }

  /** The call that is open here; undefined where none was let in since the last report. @throws ID_TAKEN where another call is open under its id */
  find(request: AdmissionRequest): AdmissionRequest | undefined {
    return this.openCall(request)?.request
  }

  /**
   * Lets a call in, or refuses it.
   * @param asked meters that must have room
   * @param unasked meters that are charged whether they have room or not, if the call is let in
   */
  admit(request: AdmissionRequest, asked: readonly LocalRef[], unasked: readonly LocalRef[], nowMs: number): RunDecision | RejectDecision {
    const decision = asked.length > 0 ? this.meters.store.admit(askedOf(request, asked, nowMs)).decision : null
    if (decision?.outcome === 'reject') return decision
    for (const local of asked) this.meters.noteCharged(local)
    if (unasked.length > 0) this.chargeUnasked(request, unasked)
    if (request.forGood !== true) this.open.set(keyOf(request), { request, runs: true, atMs: nowMs })
    return decision ?? { outcome: 'run', atMs: nowMs, usage: [] }
  }

  peek(request: AdmissionRequest, asked: readonly LocalRef[], nowMs: number): RunDecision | RejectDecision {
    return this.meters.store.peek(askedOf(request, asked, nowMs))
  }

  record(request: AdmissionRequest, meters: readonly LocalRef[], nowMs: number): void {
    this.chargeUnasked(request, meters)
    if (request.forGood !== true) this.open.set(keyOf(request), { request, runs: false, atMs: nowMs })
  }

  /** The call has ended, or has cost so much so far. @returns whether it is open here */
  settle(asked: AdmissionRequest, actual: ActualCosts, how: 'end' | 'part', nowMs: number): boolean {
    const key = keyOf(asked)
    const call = this.openCall(asked)
    if (call === undefined) return false
    const { request, atMs } = call
    const { costs, counted } = request
    const costsMore = COST_UNITS.some((unit) => (actual[unit] ?? 0) > costs[unit])
    const meters = this.meters.all(request).map((local) => (costsMore ? local.share : local.given(nowMs)))
    this.meters.store.chargeActual(under(request, meters), { atMs, counted, charged: costs, token: request.token }, actual, how, nowMs)
    if (how === 'end') this.open.delete(key)
    else {
      const sum = Object.fromEntries(COST_UNITS.map((unit) => [unit, Math.max(costs[unit], actual[unit] ?? 0)])) as Record<CostUnit, number>
      this.open.set(key, { ...call, request: { ...request, costs: sum } })
    }
    return true
  }

  /** The call was not made. @returns whether it is open here */
  release(request: AdmissionRequest, nowMs: number): boolean {
    return this.settle(request, NOTHING, 'end', nowMs)
  }

  /** Redis has charged a call, too, for good. It counts here on, and is not reported. */
  chargedByRedis(request: AdmissionRequest, atMs: number): void {
    this.chargedTwice.push({ request, runs: false, atMs })
  }

  /** What was used since the last report. The calls of the report are open in Redis from now on. */
  report(): UsageReport {
    this.meters.tick()
    const open = [...this.open.values()]
    const apart = new Map<LocalRef['meter'], Map<number, number>>()
    for (const { request, atMs } of [...open, ...this.chargedTwice]) {
      for (const local of this.meters.all(request)) {
        const sums = apart.get(local.meter) ?? new Map<number, number>()
        apart.set(local.meter, sums)
        this.meters.addCharge(sums, local, request.costs, atMs)
      }
    }
    const meters = this.meters.report(apart)
    this.open.clear()
    this.chargedTwice = []
    return { meters, open }
  }

  private openCall(request: AdmissionRequest): OpenCall | undefined {
    const call = this.open.get(keyOf(request))
    if (call !== undefined && call.request.token !== request.token) throw idTaken(request.call.id ?? request.id)
    return call
  }

  private chargeUnasked(request: AdmissionRequest, unasked: readonly LocalRef[]): void {
    const { store } = this.meters
    const counted = under(
      request,
      unasked.map((one) => one.counted),
    )
    // What has room is charged under its name, by which a sliding log finds it when it goes back.
    if (store.admit(counted).decision.outcome === 'reject') store.record(counted)
    for (const local of unasked) this.meters.noteCharged(local)
  }
}

/**
 * By what an open call is found: its id, or, where it has only the name that it was given here, the object that its admission returned. (Looking
 * names up costs a tenth of an admit. A copy of the object is not found: then the call ends in Redis, after it was reported.)
 */
function keyOf(request: AdmissionRequest): string | AdmissionRequest {
  return request.call.id === undefined ? request : request.id
}

/** A request as the store in memory is asked. It keeps no entry: the journal does. */
function under({ id, call, costs, counted, forGood }: AdmissionRequest, meters: AdmissionRequest['meters']): AdmissionRequest {
  return { id, token: '', forGood: true, mayComeBack: forGood !== true, call, meters, costs, counted }
}

function askedOf(request: AdmissionRequest, asked: readonly LocalRef[], nowMs: number): AdmissionRequest {
  return under(
    request,
    asked.map((one) => one.asked(nowMs)),
  )
}

/** Charges in Redis what a report says; once under one name. */
export async function mergeUsage(redis: Redis, keys: Keys, clock: Clock, name: string, { meters, open }: UsageReport): Promise<void> {
  const encoder = new BatchEncoder(keys, approximateMs(clock))
  for (const { part } of meters) encoder.force(meterRequest({ meters: [part], costs: NOTHING, counted: [] }, name), false)
  for (const { request } of open) encoder.force(request, false)
  const amounts = [...meters.map((one) => one.amounts), ...open.map(({ runs }) => (runs ? 0 : 1))]
  const batch = encoder.batch()
  await scripts.mergeUsage.run(redis, [...encoder.keys, keys.merged(name)], [clock.forScripts(), batch, DEFAULTS.mergedMs, JSON.stringify(amounts)])
}

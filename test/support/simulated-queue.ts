import type { CallRequest } from '../../src/admission/request.js'
import type { Call } from '../../src/index.js'
import { AS_ESTIMATED } from '../../src/model/cost.js'
import type { GivenClock } from '../../src/model/time.js'
import { readLineFronts } from '../../src/queue/line-scan.js'
import { readRecord, restoredRequest } from '../../src/queue/stored-call.js'
import type { ScriptClient } from '../../src/store/redis/script-client.js'
import type { Namespace } from './namespace.js'
import { decideBy, requestOf } from './script-client.js'

interface Start {
  readonly id: string
  readonly atMs: number
}

/** A call on its way to a worker, or held by one until its time. */
interface Delivery {
  readonly id: string
  readonly atMs: number
  readonly held: boolean
}

/** With which Retry-After, in ms, an agent refuses a call now; undefined: it takes the call. */
type Refuses = (id: string, nowMs: number) => number | undefined

/**
 * Workers and a dispatcher on a given clock and real Redis, without BullMQ: a woken call
 * reaches a worker after a latency, is held or started as the scripts decide, and ends at once
 * (or after `runMs`). What it shows about lines holds for any queue.
 */
export class SimulatedQueue {
  readonly starts: Start[] = []
  /** Calls that were refused, or past their deadline, when a worker took them. */
  readonly notStarted: { id: string; outcome: 'reject' | 'expired'; atMs: number }[] = []
  /** Calls that may not return any more. */
  readonly over: string[] = []
  /** How often workers were handed a call; a call may be handed out several times. */
  pickups = 0
  private readonly namespace: Namespace
  private readonly scriptClient: ScriptClient
  private readonly clock: GivenClock
  private readonly latencyMs: () => number
  private readonly runMs: number
  private readonly refuses: Refuses
  private readonly calls = new Map<string, Call>()
  private dispatchAll = false
  private readonly deliveries: Delivery[] = []
  private readonly running: { request: CallRequest; untilMs: number }[] = []

  constructor(parts: { namespace: Namespace; scriptClient: ScriptClient; clock: GivenClock; latencyMs?: () => number; runMs?: number; refuses?: Refuses }) {
    this.namespace = parts.namespace
    this.scriptClient = parts.scriptClient
    this.clock = parts.clock
    this.latencyMs = parts.latencyMs ?? (() => 5)
    this.runMs = parts.runMs ?? 0
    this.refuses = parts.refuses ?? (() => undefined)
  }

  /** @returns the outcome of each call */
  async enqueue(calls: readonly { id: string; call: Call }[]): Promise<string[]> {
    const requests = calls.map(({ id, call }) => requestOf(this.scriptClient, id, call))
    for (const [index, { id }] of requests.entries()) this.calls.set(id, (calls[index] as { call: Call }).call)
    const decisions = await this.scriptClient.enqueue(requests, 'calls')
    for (const [index, decision] of decisions.entries()) if (decision.outcome === 'run') this.deliver((requests[index] as CallRequest).id)
    return decisions.map(({ outcome }) => outcome)
  }

  /** Lets time go by in steps; in each, calls that are due end, are dispatched and start. */
  async runFor(ms: number, stepMs = 5): Promise<void> {
    const until = this.clock.nowMs + ms
    while (this.clock.nowMs < until) {
      await this.endDue()
      await this.dispatch()
      await this.startDue()
      this.clock.advance(stepMs)
    }
  }

  /** After a change of the rules any line may move: the next dispatch looks at all of them. */
  rulesChanged(): void {
    this.dispatchAll = true
  }

  /** @returns whether the call was taken back: false where it had started */
  async cancel(id: string): Promise<boolean> {
    if (this.starts.some((start) => start.id === id)) return false
    const record = await this.scriptClient.recordOf(id)
    if (record === null) return false
    this.deliveries.splice(0, this.deliveries.length, ...this.deliveries.filter((one) => one.id !== id))
    await this.scriptClient.release(restoredRequest(this.scriptClient, id, record), readRecord(record)?.line ?? '')
    return true
  }

  /** Cancels every call that has not started. */
  async cancelAll(): Promise<void> {
    for (const id of this.calls.keys()) await this.cancel(id)
  }

  private deliver(id: string): void {
    this.deliveries.push({ id, atMs: this.clock.nowMs + this.latencyMs(), held: false })
  }

  private async dispatch(): Promise<void> {
    await this.expire()
    const lines = await this.namespace.redis.zrange(this.namespace.keys.lines, '-inf', this.dispatchAll ? '+inf' : String(this.clock.nowMs), 'BYSCORE')
    this.dispatchAll = false
    if (lines.length > 0) {
      const { woken } = await this.scriptClient.dispatch(await readLineFronts(this.namespace.redis, this.scriptClient, lines, () => 64))
      for (const id of woken) this.deliver(id)
    }
    const passes = await this.namespace.redis.zrange(this.namespace.keys.passes, '-inf', String(this.clock.nowMs), 'BYSCORE')
    for (const id of passes) if (!this.deliveries.some((one) => one.id === id)) this.deliver(id)
  }

  private async expire(): Promise<void> {
    const late = await this.namespace.redis.zrange(this.namespace.keys.deadlines, '-inf', String(this.clock.nowMs), 'BYSCORE')
    if (late.length === 0) return
    const records = await this.namespace.redis.mget(late.map((id) => this.namespace.keys.call(id)))
    const waiting = late.map((id, index) => ({
      request: restoredRequest(this.scriptClient, id, records[index] ?? null),
      line: readRecord(records[index] ?? null)?.line ?? '',
    }))
    for (const id of await this.scriptClient.expire(waiting)) this.deliver(id)
  }

  private async startDue(): Promise<void> {
    const due = this.deliveries.filter(({ atMs }) => atMs <= this.clock.nowMs)
    if (due.length === 0) return
    this.deliveries.splice(0, this.deliveries.length, ...this.deliveries.filter(({ atMs }) => atMs > this.clock.nowMs))
    this.pickups += due.filter(({ held }) => !held).length
    const requests = due.map(({ id }) => requestOf(this.scriptClient, id.slice('calls/'.length), this.calls.get(id) as Call))
    const decisions = await decideBy(this.scriptClient, 'start', requests)
    for (const [index, decision] of decisions.entries()) {
      const { id } = due[index] as (typeof due)[number]
      if (decision.outcome === 'run') {
        this.starts.push({ id, atMs: this.clock.nowMs })
        this.running.push({ request: requests[index] as CallRequest, untilMs: this.clock.nowMs + this.runMs })
      } else if (decision.outcome === 'reject' || decision.outcome === 'expired') {
        this.notStarted.push({ id, outcome: decision.outcome, atMs: this.clock.nowMs })
      } else if (decision.outcome === 'hold') this.deliveries.push({ id, atMs: this.clock.nowMs + decision.waitMs, held: true })
    }
  }

  private async endDue(): Promise<void> {
    const done = this.running.filter(({ untilMs }) => untilMs <= this.clock.nowMs)
    if (done.length === 0) return
    this.running.splice(0, this.running.length, ...this.running.filter(({ untilMs }) => untilMs > this.clock.nowMs))
    const refused = done.filter(({ request }) => this.refuses(request.id, this.clock.nowMs) !== undefined)
    for (const { request } of refused) await this.sendBack(request, this.refuses(request.id, this.clock.nowMs) as number)
    const passed = done.filter((one) => !refused.includes(one))
    if (passed.length > 0) await this.scriptClient.settle(passed.map(({ request }) => ({ request, actual: AS_ESTIMATED })))
  }

  /** As a worker that has the lock of the call's job. */
  private async sendBack(request: CallRequest, retryAfterMs: number): Promise<void> {
    const { redis, keys } = this.namespace
    const lock = { key: keys.jobLock('calls', request.id.slice('calls/'.length)), token: 'worker' }
    await redis.set(lock.key, lock.token)
    await redis.hset(keys.job(request.id), 'name', request.call.agent)
    const report = { kind: 'refused', retryAfterMs, reduceFactor: 0.5, name: { agent: request.call.agent }, observed: null } as const
    const { over } = await this.scriptClient.returnCall({ ...request, lock }, report, 10)
    await redis.del(lock.key)
    if (over) this.over.push(request.id)
  }
}

import type { CallRequest } from '../../src/admission/request.js'
import type { Call } from '../../src/index.js'
import { AS_ESTIMATED } from '../../src/model/cost.js'
import type { GivenClock } from '../../src/model/time.js'
import { readLineFronts } from '../../src/queue/line-scan.js'
import { readRecord, restoredRequest } from '../../src/queue/stored-call.js'
import type { ScriptClient } from '../../src/store/redis/script-client.js'
import { ask, decideAt } from './gate.js'
import type { Namespace } from './namespace.js'

interface Start {
  readonly id: string
  readonly atMs: number
}

/**
 * Workers and a drainer on a given clock and real Redis, without BullMQ: woken calls come
 * to a worker after a latency, are held or started as the gate says, and end at once (or
 * after `runMs`). What it shows about lines holds for any queue.
 */
export class Fleet {
  readonly starts: Start[] = []
  /** Calls that were refused or too late when a worker took them, and how. */
  readonly turnedAway: { id: string; outcome: 'reject' | 'expired'; atMs: number }[] = []
  /** Calls that came to a worker, however often. */
  pickups = 0
  private readonly namespace: Namespace
  private readonly gate: ScriptClient
  private readonly clock: GivenClock
  private readonly latencyMs: () => number
  private readonly calls = new Map<string, Call>()
  private lookAtAll = false
  private readonly coming: { id: string; atMs: number; held: boolean }[] = []
  private readonly running: { request: CallRequest; untilMs: number }[] = []
  private readonly runMs: number

  constructor(parts: { namespace: Namespace; gate: ScriptClient; clock: GivenClock; latencyMs?: () => number; runMs?: number }) {
    this.namespace = parts.namespace
    this.gate = parts.gate
    this.clock = parts.clock
    this.latencyMs = parts.latencyMs ?? (() => 5)
    this.runMs = parts.runMs ?? 0
  }

  /** Through the front door. */
  async enqueue(calls: readonly { id: string; call: Call }[]): Promise<string[]> {
    const requests = calls.map(({ id, call }) => ask(this.gate, id, call))
    for (const [index, { id }] of requests.entries()) this.calls.set(id, (calls[index] as { call: Call }).call)
    const decisions = await this.gate.enqueue(requests)
    for (const [index, decision] of decisions.entries()) if (decision.outcome === 'run') this.come((requests[index] as CallRequest).id)
    return decisions.map(({ outcome }) => outcome)
  }

  /** Lets time pass in steps; at each, what is due is dispatched, started and ended. */
  async pass(ms: number, stepMs = 5): Promise<void> {
    const until = this.clock.nowMs + ms
    while (this.clock.nowMs < until) {
      await this.end()
      await this.dispatch()
      await this.work()
      this.clock.advance(stepMs)
    }
  }

  /** The rules changed: every line may move. */
  wakeAll(): void {
    this.lookAtAll = true
  }

  /** Takes a call back; returns whether it had not started. */
  async cancel(id: string): Promise<boolean> {
    if (this.starts.some((start) => start.id === id)) return false
    const record = await this.gate.recordOf(id)
    if (record === null) return false
    this.coming.splice(0, this.coming.length, ...this.coming.filter((one) => one.id !== id))
    await this.gate.release(restoredRequest(this.gate, id, record), readRecord(record)?.line ?? '')
    return true
  }

  /** Takes back every call that has not started, as an app would that stops waiting. */
  async finish(): Promise<void> {
    for (const id of this.calls.keys()) await this.cancel(id)
  }

  private askFor(id: string): CallRequest {
    return ask(this.gate, id.slice('calls/'.length), this.calls.get(id) as Call)
  }

  private come(id: string): void {
    this.coming.push({ id, atMs: this.clock.nowMs + this.latencyMs(), held: false })
  }

  private async dispatch(): Promise<void> {
    await this.expire()
    const lines = await this.namespace.redis.zrange(this.namespace.keys.lines, '-inf', this.lookAtAll ? '+inf' : String(this.clock.nowMs), 'BYSCORE')
    this.lookAtAll = false
    if (lines.length > 0) {
      const { woken } = await this.gate.dispatch(await readLineFronts(this.namespace.redis, this.gate, lines, 64))
      for (const id of woken) this.come(id)
    }
    const passes = await this.namespace.redis.zrange(this.namespace.keys.passes, '-inf', String(this.clock.nowMs), 'BYSCORE')
    for (const id of passes) if (!this.coming.some((one) => one.id === id)) this.come(id)
  }

  private async expire(): Promise<void> {
    const late = await this.namespace.redis.zrange(this.namespace.keys.deadlines, '-inf', String(this.clock.nowMs), 'BYSCORE')
    if (late.length === 0) return
    const records = await this.namespace.redis.mget(late.map((id) => this.namespace.keys.call(id)))
    const waiting = late.map((id, index) => ({
      request: restoredRequest(this.gate, id, records[index] ?? null),
      line: readRecord(records[index] ?? null)?.line ?? '',
    }))
    for (const id of await this.gate.expire(waiting)) this.come(id)
  }

  private async work(): Promise<void> {
    const due = this.coming.filter(({ atMs }) => atMs <= this.clock.nowMs)
    if (due.length === 0) return
    this.coming.splice(0, this.coming.length, ...this.coming.filter(({ atMs }) => atMs > this.clock.nowMs))
    this.pickups += due.filter(({ held }) => !held).length
    const requests = due.map(({ id }) => this.askFor(id))
    const decisions = await decideAt(this.gate, 'start', requests)
    for (const [index, decision] of decisions.entries()) {
      const { id } = due[index] as (typeof due)[number]
      if (decision.outcome === 'run') {
        this.starts.push({ id, atMs: this.clock.nowMs })
        this.running.push({ request: requests[index] as CallRequest, untilMs: this.clock.nowMs + this.runMs })
      } else if (decision.outcome === 'reject' || decision.outcome === 'expired') {
        this.turnedAway.push({ id, outcome: decision.outcome, atMs: this.clock.nowMs })
      } else if (decision.outcome === 'hold') this.coming.push({ id, atMs: this.clock.nowMs + decision.waitMs, held: true })
    }
  }

  private async end(): Promise<void> {
    const done = this.running.filter(({ untilMs }) => untilMs <= this.clock.nowMs)
    if (done.length === 0) return
    this.running.splice(0, this.running.length, ...this.running.filter(({ untilMs }) => untilMs > this.clock.nowMs))
    await this.gate.settle(done.map(({ request }) => ({ request, actual: AS_ESTIMATED })))
  }
}

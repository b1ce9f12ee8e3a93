import type { GivenClock } from '../../src/clock.js'
import { AS_ESTIMATED } from '../../src/cost/units.js'
import type { AskedCall } from '../../src/gate/asked.js'
import type { Gate } from '../../src/gate/gate.js'
import type { Call } from '../../src/index.js'
import { readFronts } from '../../src/queue/fronts.js'
import { readRecord } from '../../src/queue/stored.js'
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
  /** Calls that came to a worker, however often. */
  pickups = 0
  private readonly namespace: Namespace
  private readonly gate: Gate
  private readonly clock: GivenClock
  private readonly latencyMs: () => number
  private readonly asked = new Map<string, AskedCall>()
  private readonly coming: { id: string; atMs: number; held: boolean }[] = []
  private readonly running: { id: string; untilMs: number }[] = []
  private readonly runMs: number

  constructor(parts: { namespace: Namespace; gate: Gate; clock: GivenClock; latencyMs?: () => number; runMs?: number }) {
    this.namespace = parts.namespace
    this.gate = parts.gate
    this.clock = parts.clock
    this.latencyMs = parts.latencyMs ?? (() => 5)
    this.runMs = parts.runMs ?? 0
  }

  /** Through the front door. */
  async enqueue(calls: readonly { id: string; call: Call }[]): Promise<string[]> {
    const asked = calls.map(({ id, call }) => ask(this.gate, id, call))
    for (const one of asked) this.asked.set(one.id, one)
    const decisions = await this.gate.front(asked)
    for (const [index, decision] of decisions.entries()) if (decision.outcome === 'run') this.come((asked[index] as AskedCall).id)
    return decisions.map(({ outcome }) => outcome)
  }

  /** Lets time pass in steps; at each, what is due is drained, started and ended. */
  async pass(ms: number, stepMs = 5): Promise<void> {
    const until = this.clock.nowMs + ms
    while (this.clock.nowMs < until) {
      await this.end()
      await this.drain()
      await this.work()
      this.clock.advance(stepMs)
    }
  }

  /** Takes back every call that has not started, as an app would that stops waiting. */
  async finish(): Promise<void> {
    const started = new Set(this.starts.map(({ id }) => id))
    for (const [id, asked] of this.asked) {
      if (started.has(id)) continue
      const record = readRecord(await this.namespace.redis.get(this.namespace.keys.call(id)))
      if (record !== null) await this.gate.release(asked, record.line)
    }
  }

  private come(id: string): void {
    this.coming.push({ id, atMs: this.clock.nowMs + this.latencyMs(), held: false })
  }

  private async drain(): Promise<void> {
    const lines = await this.namespace.redis.zrange(this.namespace.keys.lines, '-inf', String(this.clock.nowMs), 'BYSCORE')
    if (lines.length === 0) return
    const { woken } = await this.gate.drain(await readFronts(this.namespace.redis, this.gate, lines, 64))
    for (const id of woken) this.come(id)
    const passes = await this.namespace.redis.zrange(this.namespace.keys.passes, '-inf', String(this.clock.nowMs), 'BYSCORE')
    for (const id of passes) if (!this.coming.some((one) => one.id === id)) this.come(id)
  }

  private async work(): Promise<void> {
    const due = this.coming.filter(({ atMs }) => atMs <= this.clock.nowMs)
    if (due.length === 0) return
    this.coming.splice(0, this.coming.length, ...this.coming.filter(({ atMs }) => atMs > this.clock.nowMs))
    this.pickups += due.filter(({ held }) => !held).length
    const decisions = await decideAt(
      this.gate,
      'start',
      due.map(({ id }) => this.asked.get(id) as AskedCall),
    )
    for (const [index, decision] of decisions.entries()) {
      const { id } = due[index] as (typeof due)[number]
      if (decision.outcome === 'run') {
        this.starts.push({ id, atMs: this.clock.nowMs })
        this.running.push({ id, untilMs: this.clock.nowMs + this.runMs })
      } else if (decision.outcome === 'hold') this.coming.push({ id, atMs: this.clock.nowMs + decision.waitMs, held: true })
    }
  }

  private async end(): Promise<void> {
    const done = this.running.filter(({ untilMs }) => untilMs <= this.clock.nowMs)
    if (done.length === 0) return
    this.running.splice(0, this.running.length, ...this.running.filter(({ untilMs }) => untilMs > this.clock.nowMs))
    await this.gate.settle(done.map(({ id }) => ({ asked: this.asked.get(id) as AskedCall, actual: AS_ESTIMATED })))
  }
}

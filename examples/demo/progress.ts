import type { Ticket } from '../../src/index.js'
import type { PlannedCall } from './plan.js'
import type { WorkerEvent } from './worker-events.js'

interface Followed {
  readonly call: PlannedCall
  acceptedAtMs: number | undefined
  startedAtMs: number | undefined
  actualTokens: number | undefined
}

/** The state of every call so far. */
export class Progress {
  readonly total: number
  finished = 0
  pickups = 0
  /** The errors of calls that failed or were refused. */
  readonly failures: string[] = []
  readonly done: Promise<void>
  private readonly followed = new Map<string, Followed>()
  private resolveDone: () => void = () => {}

  constructor(total: number) {
    this.total = total
    this.done = new Promise((resolve) => {
      this.resolveDone = resolve
    })
  }

  /** To be called before the call is enqueued: the worker may report on it before enqueue has returned. */
  sent(call: PlannedCall): void {
    this.followed.set(call.id, { call, acceptedAtMs: undefined, startedAtMs: undefined, actualTokens: undefined })
  }

  answered(call: PlannedCall, ticket: Ticket): void {
    const followed = this.followed.get(call.id)
    if (followed !== undefined) followed.acceptedAtMs = ticket.decision?.atMs
    if (ticket.error !== undefined) this.failed(ticket.error.message)
  }

  report(event: WorkerEvent): void {
    switch (event.kind) {
      case 'ready':
        return
      case 'pickedUp':
        this.pickups++
        return
      case 'started': {
        const followed = this.followed.get(event.id)
        if (followed !== undefined) followed.startedAtMs = event.atMs
        return
      }
      case 'finished': {
        const followed = this.followed.get(event.id)
        if (followed !== undefined) followed.actualTokens = event.tokens
        this.finished++
        this.endIfAll()
        return
      }
      case 'failed':
        this.failed(event.reason)
    }
  }

  /** Ids of an organisation's calls that have not started, in the order they came. */
  waiting(org: string): string[] {
    const waits = ({ call, acceptedAtMs, startedAtMs }: Followed) => call.org === org && acceptedAtMs !== undefined && startedAtMs === undefined
    return [...this.followed.values()].filter(waits).map(({ call }) => call.id)
  }

  get sentCount(): number {
    return this.followed.size
  }

  get started(): number {
    return [...this.followed.values()].filter(({ startedAtMs }) => startedAtMs !== undefined).length
  }

  /** The waits of started calls of an organisation (default: of all), in ms. */
  waitsMs(org?: string): number[] {
    return [...this.followed.values()].flatMap(({ call, acceptedAtMs, startedAtMs }) =>
      acceptedAtMs === undefined || startedAtMs === undefined || (org !== undefined && call.org !== org) ? [] : [Math.max(0, startedAtMs - acceptedAtMs)],
    )
  }

  /** From the first accepted call to the last start, in ms. */
  get spanMs(): number {
    const all = [...this.followed.values()]
    const first = all.reduce((least, { acceptedAtMs }) => Math.min(least, acceptedAtMs ?? least), Number.POSITIVE_INFINITY)
    return all.reduce((most, { startedAtMs }) => Math.max(most, (startedAtMs ?? 0) - first), 0)
  }

  /** The sums over finished calls. */
  get tokens(): { estimated: number; actual: number } {
    const sums = { estimated: 0, actual: 0 }
    for (const { call, actualTokens } of this.followed.values()) {
      if (actualTokens === undefined) continue
      sums.estimated += call.cost.tokens
      sums.actual += actualTokens
    }
    return sums
  }

  private failed(reason: string): void {
    this.failures.push(reason)
    this.endIfAll()
  }

  private endIfAll(): void {
    if (this.finished + this.failures.length >= this.total) this.resolveDone()
  }
}

import { type AgentLimit, agentLimit, sameKind } from './agent-limits.js'
import { formOf, type MetRef, type Version } from './coverage.js'
import type { Form } from './facts.js'
import { LostRoom } from './lost-room.js'

/** A meter as an ideal line would see it: charged with estimates at the charges, and with what runs really cost from their ends on. */
export class LineMeter {
  limit: AgentLimit
  /** Until then its room is not known. */
  unknownUntilMs = Number.NEGATIVE_INFINITY
  /** When a call stood here last that could not go on, whatever room it had. */
  sickMs = Number.NEGATIVE_INFINITY
  readonly lost: LostRoom

  constructor(
    readonly id: string,
    readonly name: string,
    readonly key: string,
    public form: Form | null,
  ) {
    this.limit = agentLimit(form ?? { kind: 'sliding log', limit: Number.POSITIVE_INFINITY, windowMs: 1 }, true)
    this.lost = new LostRoom(id)
  }

  /** From now on it has another form; null: without a bound. */
  adopt(atMs: number, form: Form | null): void {
    if (form !== null && this.form !== null && sameKind(form, this.form)) this.limit.change(atMs, form)
    else if (form !== null) this.limit = agentLimit(form, true)
    this.form = form
  }

  /** The earliest time at which a cost has room behind what is kept for other calls. */
  roomAt(atMs: number, cost: number, ahead: number): number {
    if (this.form === null || (cost === 0 && this.form.kind !== 'leaky bucket')) return atMs
    return Math.max(this.limit.roomAt(atMs, cost, ahead), this.unknownUntilMs)
  }

  /** A run cost more than its estimate. What exceeds a window is paid by the windows to come, at the latest when these have passed in full. */
  owe(atMs: number, cost: number, startedMs: number): void {
    this.limit.owe(atMs, cost, startedMs)
    const { form } = this
    if (form === null || !('windowMs' in form)) return
    const over = -this.limit.room(atMs)
    if (over <= 0 || form.limit === 0) return
    this.unknownUntilMs = Math.max(this.unknownUntilMs, atMs + (Math.ceil(over / form.limit) + 1) * form.windowMs * (33 / 32))
  }
}

export class LineMeters {
  private readonly meters = new Map<string, LineMeter>()

  of(met: MetRef): LineMeter {
    const known = this.meters.get(met.id)
    if (known !== undefined) return known
    const meter = new LineMeter(met.id, met.limit.name, met.key, met.form)
    this.meters.set(met.id, meter)
    return meter
  }

  all(): Iterable<LineMeter> {
    return this.meters.values()
  }

  adopt({ atMs, limits }: Version): void {
    for (const meter of this.meters.values()) {
      const limit = limits.find(({ name }) => name === meter.name)
      meter.adopt(atMs, limit === undefined ? null : formOf(limit, meter.key))
    }
  }
}

import { type AgentCharge, label, type Model, type Start } from './model.js'
import type { RateLimit, SlotLimit } from './scope.js'
import type { Setting } from './setting.js'

/** What passes although it exceeds a bucket: what comes back within a microsecond, and the last bits of sums. */
const SLACK = 0.003
const RENEWALS_PER_LEASE = 3

/** The agent's own books: its buckets, windows and slots, fed with what really starts. They know nothing of what Tollgate keeps. */
export class Agent {
  constructor(private readonly setting: Setting) {}

  /** A call is charged now, and its start is on its way to the agent. */
  charge(model: Model, { call, attempt }: Start): void {
    model.charges.push({ call, attempt, atMs: model.atMs })
    for (const limit of this.setting.scope.rates) {
      const over = this.used(limit, model.charges, this.keyOf(limit, call), model.atMs) - Agent.capacity(limit)
      if (over > SLACK) this.setting.report(`over: ${over.toFixed(2)} ${limit.unit} more than ${limit.name} allows`)
    }
  }

  /** The agent refused the call of a charge: it cost nothing. */
  takeBack(model: Model, { call, attempt }: Start): void {
    model.charges = model.charges.filter((charge) => charge.call !== call || charge.attempt !== attempt)
  }

  /** A run begins. @param chargedAtMs its slot is held from then on */
  begin(model: Model, { call, attempt, batch, rules, ledger, place }: Start, chargedAtMs: number): void {
    for (const limit of this.setting.scope.slots) {
      const { slots, leaseMs } = limit.form
      const renewAtMs = model.atMs + leaseMs / RENEWALS_PER_LEASE
      const sent = ledger === undefined || place === undefined ? {} : { ledger, place }
      model.runs.push({ call, attempt, batch, ...sent, leaseEndsMs: chargedAtMs + leaseMs, renewAtMs, rules })
      const beside = model.runs.filter((run) => run.leaseEndsMs > model.atMs && this.keyOf(limit, run.call) === this.keyOf(limit, call))
      if (beside.length > slots) this.setting.report(`over: ${beside.map(label).sort().join(' and ')} run at once in ${slots} slot of ${limit.name}`)
    }
  }

  end(model: Model, { call, attempt }: Start): void {
    model.runs = model.runs.filter((run) => run.call !== call || run.attempt !== attempt)
  }

  /** Drops what counts nowhere any more, so that states which differ in nothing else are one. */
  forget(model: Model): void {
    const { rates } = this.setting.scope
    const counts = (limit: RateLimit, charges: readonly AgentCharge[], call: number) => this.used(limit, charges, this.keyOf(limit, call), model.atMs) > 0
    // A charge of a bucket counts until all of them have come back; one of a window until its window ends.
    const buckets = rates.filter(({ form }) => form.kind === 'bucket')
    if (buckets.some((limit) => model.charges.some(({ call }) => counts(limit, model.charges, call)))) return
    model.charges = model.charges.filter((charge) => rates.some((limit) => counts(limit, [charge], charge.call)))
  }

  /** How much of a limit is used at a time. */
  used(limit: RateLimit, charges: readonly AgentCharge[], key: string, atMs: number): number {
    const { form } = limit
    const counted = charges.filter((charge) => this.keyOf(limit, charge.call) === key)
    if (form.kind === 'fixed window') {
      const here = counted.filter((charge) => Math.floor(charge.atMs / form.windowMs) === Math.floor(atMs / form.windowMs))
      return here.reduce((sum, charge) => sum + this.costOf(limit, charge.call), 0)
    }
    let level = 0
    let sinceMs = 0
    for (const charge of counted) {
      level = Math.max(0, level - ((charge.atMs - sinceMs) * form.perSecond) / 1000) + this.costOf(limit, charge.call)
      sinceMs = charge.atMs
    }
    return Math.max(0, level - ((atMs - sinceMs) * form.perSecond) / 1000)
  }

  /** The most that a limit holds. */
  static capacity({ form }: RateLimit): number {
    return form.kind === 'bucket' ? form.burst : form.limit
  }

  keyOf({ by }: RateLimit | SlotLimit, call: number): string {
    return by.map((field) => this.setting.scope.calls[call]?.[field] ?? '').join('/')
  }

  /** What a call really costs. */
  costOf({ unit }: RateLimit, call: number): number {
    const { actual, calls } = this.setting.scope
    return actual?.[call]?.[unit] ?? calls[call]?.cost?.[unit] ?? (unit === 'requests' ? 1 : 0)
  }
}

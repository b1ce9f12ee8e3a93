import type { Form } from './facts.js'

/**
 * A limit as an agent would hold it by itself, fed with charges in the order of their times. It shares nothing with Tollgate's algorithms: it
 * remembers each charge and adds them up.
 */
export interface AgentLimit {
  /** @returns by how much the limit is exceeded with this charge; 0 or less: it had room */
  charge(atMs: number, cost: number, id: string): number
  /** What a call that started before cost more than its charge. It may exceed the limit. */
  owe(atMs: number, cost: number, startedMs: number): void
  /** A call that was charged cost less, as is known from now on. */
  giveBack(atMs: number, cost: number, id: string): void
  /** The earliest time from `atMs` on at which a cost fits behind `ahead`, the room that is kept for others, if nothing else happens. */
  roomAt(atMs: number, cost: number, ahead: number): number
  /** The room there is at a time. */
  room(atMs: number): number
  /** From now on it allows as much as another form of the same kind; what is used stays. */
  change(atMs: number, form: Form): void
}

interface Charge {
  readonly atMs: number
  readonly id: string
  cost: number
}

/** Sums of doubles are compared with this tolerance. */
export const ROUNDING = 0.002

/** A bucket; a leaky one lets a call start when nothing is missing, whatever the call costs. */
class Bucket implements AgentLimit {
  private atMs = Number.NEGATIVE_INFINITY
  private missing = 0
  /** The charges since the bucket was last full: a charge before that has been refilled, whatever it cost. */
  private charges: Charge[] = []
  private base: { atMs: number; missing: number } = { atMs: Number.NEGATIVE_INFINITY, missing: 0 }
  /** What was missing after the last charge, and the least rate since. */
  private charged = { atMs: Number.NEGATIVE_INFINITY, missing: 0, leastPerSecond: Number.POSITIVE_INFINITY }

  /** @param generous whether all the time since the last charge may count by the least rate since, where the rate was changed */
  constructor(
    private form: Extract<Form, { kind: 'bucket' | 'leaky bucket' }>,
    private readonly generous: boolean,
  ) {}

  /** How much may be missing after a call of this cost. */
  private mayLack(cost: number): number {
    return this.form.kind === 'bucket' ? this.form.burst : cost
  }

  private missingAt(atMs: number): number {
    return this.missing === 0 ? 0 : Math.max(0, this.missing - (Math.max(0, atMs - this.atMs) * this.form.perSecond) / 1000)
  }

  private roll(atMs: number): void {
    this.missing = this.missingAt(atMs)
    this.atMs = Math.max(atMs, this.atMs)
  }

  charge(atMs: number, cost: number, id: string): number {
    this.roll(atMs)
    if (this.missing === 0) {
      this.charges = []
      this.base = { atMs: this.atMs, missing: 0 }
    }
    this.charges.push({ atMs: this.atMs, id, cost })
    this.missing += cost
    this.charged = { atMs: this.atMs, missing: this.missing, leastPerSecond: this.form.perSecond }
    return this.missing - this.mayLack(cost)
  }

  owe(atMs: number, cost: number): void {
    this.charge(atMs, cost, '')
  }

  giveBack(atMs: number, cost: number, id: string): void {
    const charge = this.charges.find((one) => one.id === id)
    if (charge === undefined) return
    charge.cost = Math.max(0, charge.cost - cost)
    this.missing = this.base.missing
    this.atMs = this.base.atMs
    for (const { atMs: chargedMs, cost: charged } of this.charges) {
      this.roll(chargedMs)
      this.missing += charged
    }
    this.roll(atMs)
    this.charged = { atMs: this.atMs, missing: this.missing, leastPerSecond: this.form.perSecond }
  }

  roomAt(atMs: number, cost: number, ahead: number): number {
    const over = this.missingAt(atMs) + ahead + cost - this.mayLack(cost)
    if (over <= ROUNDING) return atMs
    if (cost > this.mayLack(cost) + ROUNDING || this.form.perSecond === 0) return Number.POSITIVE_INFINITY
    return atMs + (over * 1000) / this.form.perSecond
  }

  room(atMs: number): number {
    return this.mayLack(0) - this.missingAt(atMs)
  }

  /** When it is full, if nothing else happens. */
  fullAt(atMs: number): number {
    const missing = this.missingAt(atMs)
    return missing === 0 ? atMs : atMs + (missing * 1000) / this.form.perSecond
  }

  change(atMs: number, form: Form): void {
    if (form.kind !== 'bucket' && form.kind !== 'leaky bucket') return
    this.roll(atMs)
    const { charged } = this
    if (this.generous && charged.missing > 0) {
      charged.leastPerSecond = Math.min(charged.leastPerSecond, this.form.perSecond, form.perSecond)
      this.missing = Math.max(this.missing, charged.missing - (Math.max(0, atMs - charged.atMs) * charged.leastPerSecond) / 1000)
    }
    this.form = form
    // A bucket that became smaller lacks at most all that it can hold.
    if (form.kind === 'bucket') this.missing = Math.min(this.missing, form.burst)
    this.charges = []
    this.base = { atMs: this.atMs, missing: this.missing }
  }
}

/** The number of the fixed window of a time. */
export function windowAt({ windowMs, aheadMs = 0 }: Extract<Form, { kind: 'fixed window' }>, atMs: number): number {
  return Math.floor((atMs + aheadMs) / windowMs)
}

class FixedWindow implements AgentLimit {
  private window = Number.MIN_SAFE_INTEGER
  private used = 0
  /** What the calls of this window cost above the limit: it is paid from the next windows. */
  private owed = 0
  private readonly windows = new Map<string, number>()

  constructor(private form: Extract<Form, { kind: 'fixed window' }>) {}

  private indexOf(atMs: number): number {
    return windowAt(this.form, atMs)
  }

  private usedAt(atMs: number): number {
    const passed = this.indexOf(atMs) - this.window
    return passed <= 0 ? this.used : Math.max(0, this.owed - this.form.limit * (passed - 1))
  }

  private roll(atMs: number): void {
    const index = this.indexOf(atMs)
    if (index <= this.window) return
    this.used = this.usedAt(atMs)
    this.owed = Math.max(0, this.used - this.form.limit)
    this.window = index
  }

  charge(atMs: number, cost: number, id: string): number {
    this.roll(atMs)
    this.windows.set(id, this.window)
    this.used += cost
    return this.used - this.form.limit
  }

  owe(atMs: number, cost: number): void {
    this.roll(atMs)
    this.used += cost
    this.owed += Math.max(0, Math.min(cost, this.used - this.form.limit))
  }

  giveBack(atMs: number, cost: number, id: string): void {
    this.roll(atMs)
    if (this.windows.get(id) === this.window) this.used -= cost
  }

  roomAt(atMs: number, own: number, ahead: number): number {
    const cost = own + ahead
    if (this.usedAt(atMs) + cost <= this.form.limit + ROUNDING) return atMs
    if (this.form.limit === 0 || cost > this.form.limit + ROUNDING) return Number.POSITIVE_INFINITY
    for (let index = Math.max(this.indexOf(atMs), this.window) + 1; ; index++) {
      const beginMs = index * this.form.windowMs - (this.form.aheadMs ?? 0)
      if (this.usedAt(beginMs) + cost <= this.form.limit + ROUNDING) return beginMs
    }
  }

  room(atMs: number): number {
    return this.form.limit - this.usedAt(atMs)
  }

  change(atMs: number, form: Form): void {
    this.roll(atMs)
    if (form.kind === 'fixed window') this.form = form
  }
}

/** At most the limit in any window, exactly: the sliding log, and the sliding window with charges that count for somewhat longer. */
class AnyWindow implements AgentLimit {
  private charges: Charge[] = []
  private used = 0

  /** @param countsMs how long a charge counts */
  constructor(
    private limit: number,
    private readonly countsMs: number,
  ) {}

  private roll(atMs: number): void {
    let gone = 0
    for (; gone < this.charges.length; gone++) {
      const charge = this.charges[gone] as Charge
      if (charge.atMs + this.countsMs > atMs) break
      this.used -= charge.cost
    }
    if (gone > 0) this.charges.splice(0, gone)
    if (this.charges.length === 0) this.used = 0
  }

  private add(charge: Charge): void {
    let place = this.charges.length
    while (place > 0 && (this.charges[place - 1] as Charge).atMs > charge.atMs) place--
    this.charges.splice(place, 0, charge)
    this.used += charge.cost
  }

  charge(atMs: number, cost: number, id: string): number {
    this.roll(atMs)
    this.add({ atMs, id, cost })
    return this.used - this.limit
  }

  owe(atMs: number, cost: number, startedMs: number): void {
    this.roll(atMs)
    // What has room counts from the start of its call; the rest takes the room of the time to come.
    const fits = Math.max(0, Math.min(cost, this.limit - this.used))
    if (startedMs + this.countsMs > atMs) this.add({ atMs: startedMs, id: '', cost: fits })
    if (cost > fits) this.add({ atMs, id: '', cost: cost - fits })
  }

  giveBack(atMs: number, cost: number, id: string): void {
    this.roll(atMs)
    const charge = this.charges.find((one) => one.id === id)
    if (charge === undefined) return
    charge.cost -= cost
    this.used -= cost
  }

  roomAt(atMs: number, cost: number, ahead: number): number {
    this.roll(atMs)
    let over = this.used + cost + ahead - this.limit
    if (over <= ROUNDING) return atMs
    for (const charge of this.charges) {
      over -= charge.cost
      if (over <= ROUNDING) return charge.atMs + this.countsMs
    }
    return Number.POSITIVE_INFINITY
  }

  room(atMs: number): number {
    this.roll(atMs)
    return this.limit - this.used
  }

  change(_atMs: number, form: Form): void {
    if (form.kind === 'sliding log' || form.kind === 'sliding window') this.limit = form.limit
  }
}

/** Runs at once. When a slot comes free is only known when it does. */
class Slots implements AgentLimit {
  private readonly holders = new Set<string>()

  constructor(private form: Extract<Form, { kind: 'slots' }>) {}

  charge(_atMs: number, _cost: number, id: string): number {
    this.holders.add(id)
    return this.holders.size - this.form.slots
  }

  owe(): void {}

  giveBack(_atMs: number, _cost: number, id: string): void {
    this.holders.delete(id)
  }

  roomAt(atMs: number, cost: number, ahead: number): number {
    return this.holders.size + cost + ahead <= this.form.slots ? atMs : Number.POSITIVE_INFINITY
  }

  room(): number {
    return this.form.slots - this.holders.size
  }

  change(_atMs: number, form: Form): void {
    if (form.kind === 'slots') this.form = form
  }
}

/** How much longer a charge of a sliding window may count than its window, as a part of it. */
const CELL = 1 / 32

/** @param generous whether a sliding window, and a bucket whose rate was changed, lets room go as late as it may; else as early */
export function agentLimit(form: Form, generous = false): AgentLimit {
  switch (form.kind) {
    case 'bucket':
    case 'leaky bucket':
      return new Bucket(form, generous)
    case 'fixed window':
      return new FixedWindow(form)
    case 'sliding log':
      return new AnyWindow(form.limit, form.windowMs)
    case 'sliding window':
      return new AnyWindow(form.limit, form.windowMs * (generous ? 1 + CELL : 1))
    case 'slots':
      return new Slots(form)
    default:
      return form satisfies never
  }
}

/** When a bucket is full, if nothing else happens; Infinity for limits that do not refill all the time. */
export function fullAt(limit: AgentLimit, atMs: number): number {
  return limit instanceof Bucket ? limit.fullAt(atMs) : Number.POSITIVE_INFINITY
}

/** Whether usage under one form goes on under another. */
export function sameKind(a: Form, b: Form): boolean {
  if (a.kind !== b.kind) return false
  return !('windowMs' in a && 'windowMs' in b) || a.windowMs === b.windowMs
}

/** A form that allows all that either of two of the same kind does. */
export function largerForm(a: Form, b: Form): Form {
  switch (a.kind) {
    case 'bucket':
      return b.kind === 'bucket' ? { kind: 'bucket', perSecond: Math.max(a.perSecond, b.perSecond), burst: Math.max(a.burst, b.burst) } : a
    case 'leaky bucket':
      return b.kind === a.kind && b.perSecond > a.perSecond ? b : a
    case 'slots':
      return b.kind === 'slots' ? { kind: 'slots', slots: Math.max(a.slots, b.slots), leaseMs: Math.min(a.leaseMs, b.leaseMs) } : a
    case 'fixed window':
    case 'sliding log':
    case 'sliding window':
      return b.kind === a.kind ? { ...a, limit: Math.max(a.limit, b.limit) } : a
    default:
      return a satisfies never
  }
}

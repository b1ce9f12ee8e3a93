import { costIn, type MetRef } from './coverage.js'
import type { AskedFact, Bounds } from './facts.js'
import type { History, Story } from './history.js'
import type { LineMeter, LineMeters } from './line-meters.js'

/** Calls that differ in nothing but their costs and places. */
export interface WaitingGroup {
  readonly asked: AskedFact
  /** Calls of one lane stand in the same lines. */
  readonly lane: string
  /** Waits, but is not judged: where it stands does not follow from facts. */
  readonly unjudged: boolean
  meters: readonly MetRef[]
  /** How many of its calls wait. */
  size: number
  /** The meter at which the first of them stands. */
  boundBy: LineMeter | undefined
  /** How often that was a meter of another rule than before. */
  moves: number
  /** The number of the look in which no more of its calls could start. */
  closedIn: number
}

/** A call that waits. */
export interface Waiting {
  readonly story: Story
  readonly group: WaitingGroup
  meters: readonly { readonly meter: LineMeter; readonly cost: number }[]
  /** Since when it could have started without a break; undefined: it cannot. */
  dueMs: number | undefined
  /** The meter that kept it from starting last. */
  boundBy: LineMeter | undefined
  /** The moves of its group when it came. */
  readonly movesBefore: number
}

/**
 * A call that two busy rules refuse in turn keeps room of a bucket, or slots, at the one while it waits a second, at most, for the other. That room
 * is lost on purpose, so that two busy rules cannot keep a call waiting for ever.
 */
export const KEPT_AHEAD_MS = 1000

function ruleOf({ name }: LineMeter): string {
  return name.slice(0, name.indexOf('/') + 1)
}

/** What the calls cost that wait at a meter: those that could start, and all. */
export interface WaitingCosts {
  readonly due: number
  readonly all: number
}

function costAt(meter: LineMeter, meters: Waiting['meters']): number {
  return meters.find((one) => one.meter === meter)?.cost ?? 0
}

/** What calls need besides room. */
export interface Surroundings {
  /** Why a call cannot start whatever room it has: sick, if that is to cost other calls little; undefined: it can. */
  hindrance(group: WaitingGroup, atMs: number): 'sick' | 'other' | undefined
  freePlaces(queue: string, atMs: number): number
}

/**
 * The line as it could be at best: at each time it knows which calls could start, given the real charges of all others. A call can if all its
 * meters have room for it behind the calls before it that can, and no call before it in its lane stands at one of these meters.
 */
export class IdealLine {
  private readonly waiting: Waiting[] = []
  private readonly groups = new Map<string, WaitingGroup>()
  private looks = 0
  due: readonly Waiting[] = []

  constructor(
    private readonly history: History,
    private readonly meters: LineMeters,
    private readonly surroundings: Surroundings,
    private readonly bounds: Bounds,
  ) {}

  enter(story: Story, lane: string, unjudged: boolean, atMs: number): void {
    const { asked } = story
    const key = JSON.stringify([asked.scopes, asked.queue, lane, unjudged])
    let group = this.groups.get(key)
    if (group === undefined || group.size === 0) {
      group = { asked, lane, unjudged, meters: this.metersOf(asked, atMs), size: 0, boundBy: undefined, moves: 0, closedIn: 0 }
      this.groups.set(key, group)
    }
    group.size++
    const waiting: Waiting = { story, group, meters: this.costsOf(story, group), dueMs: undefined, boundBy: undefined, movesBefore: group.moves }
    let place = this.waiting.length
    while (place > 0 && (this.waiting[place - 1] as Waiting).story.rank > story.rank) place--
    this.waiting.splice(place, 0, waiting)
  }

  leave(story: Story): void {
    const place = this.waiting.findIndex((one) => one.story === story)
    if (place < 0) return
    const [waiting] = this.waiting.splice(place, 1)
    if (waiting !== undefined) waiting.group.size--
  }

  /** The limits have changed: each call has other meters. */
  resolveAll(atMs: number): void {
    for (const group of this.groups.values()) group.meters = this.metersOf(group.asked, atMs)
    for (const waiting of this.waiting) waiting.meters = this.costsOf(waiting.story, waiting.group)
  }

  private metersOf({ scopes }: AskedFact, atMs: number): MetRef[] {
    return (this.history.metersDuring(scopes, atMs, atMs).at(-1) ?? []).filter(({ form }) => form !== null)
  }

  private costsOf({ asked }: Story, { meters }: WaitingGroup): Waiting['meters'] {
    return meters.map((one) => ({ meter: this.meters.of(one), cost: costIn(one.limit, asked.costs) }))
  }

  /** Finds the calls that can start at a time. @returns the next time at which more of them can, if nothing happens */
  look(atMs: number): number {
    const look = new Look(++this.looks, atMs)
    const places = new Map<string, number>()
    const due: Waiting[] = []
    let open = this.closeHindered(look.number, atMs)
    for (const waiting of this.waiting) {
      if (open === 0) break
      const { group } = waiting
      if (group.closedIn === look.number) continue
      const stands = look.standing(waiting)
      if (stands !== undefined) {
        if (group.boundBy !== undefined && ruleOf(group.boundBy) !== ruleOf(stands.meter)) group.moves++
        group.boundBy = stands.meter
        waiting.boundBy = stands.meter
        // A call that was moved may keep room at its other meters; the calls of its group that come after it, too.
        if (group.moves > waiting.movesBefore && look.keepAhead(waiting, stands)) continue
        group.closedIn = look.number
        open--
        continue
      }
      if (!this.takesPlace(waiting, places, atMs)) continue
      due.push(waiting)
      waiting.boundBy ??= group.boundBy
      // A call that does not go on for so long keeps the others waiting no more.
      const keepsUntilMs = (waiting.dueMs ?? atMs) + this.bounds.lateSickMs
      if (keepsUntilMs <= atMs) continue
      look.keep(waiting)
      const toldMs = (waiting.dueMs ?? atMs) + this.bounds.stepMs
      look.again(toldMs > atMs ? toldMs : keepsUntilMs)
    }
    this.due = due
    return look.nextMs
  }

  /** Leaves out the groups that cannot go on. @returns how many can */
  private closeHindered(number: number, atMs: number): number {
    let open = 0
    for (const group of this.groups.values()) {
      if (group.size === 0) continue
      const hindrance = this.surroundings.hindrance(group, atMs)
      if (hindrance === 'sick') for (const met of group.meters) this.meters.of(met).sickMs = atMs
      if (group.unjudged || hindrance !== undefined) group.closedIn = number
      else open++
    }
    return open
  }

  private takesPlace({ story, meters }: Waiting, places: Map<string, number>, atMs: number): boolean {
    const { queue } = story.asked
    if (queue === undefined) return true
    const left = places.get(queue) ?? this.surroundings.freePlaces(queue, atMs)
    places.set(queue, left - 1)
    if (left > 0) return true
    // A queue that is full is a sick participant, too.
    for (const { meter } of meters) meter.sickMs = atMs
    return false
  }

  /** The meters at which calls stand, and what the calls cost that could start there. A free slot is told, not foreseen: that takes a step. */
  backlog(atMs: number): Map<LineMeter, WaitingCosts> {
    const backlog = new Map<LineMeter, WaitingCosts>()
    const add = (meter: LineMeter, due: number, all: number) => {
      const before = backlog.get(meter) ?? { due: 0, all: 0 }
      backlog.set(meter, { due: before.due + due, all: before.all + all })
    }
    for (const { size, boundBy, unjudged } of this.groups.values()) if (size > 0 && boundBy !== undefined && !unjudged) add(boundBy, 0, 0)
    for (const { group, boundBy = group.boundBy, meters } of this.waiting)
      if (boundBy !== undefined && !group.unjudged) add(boundBy, 0, costAt(boundBy, meters))
    for (const { boundBy, dueMs = atMs, meters } of this.due) {
      if (boundBy === undefined || (boundBy.form?.kind === 'slots' && dueMs + this.bounds.stepMs > atMs)) continue
      add(boundBy, costAt(boundBy, meters), 0)
    }
    return backlog
  }
}

/** Where a call stands, and for how long. */
interface Stands {
  readonly meter: LineMeter
  readonly waitMs: number
}

/** One look at the line: the room that is kept, and the meters at which calls stand. */
class Look {
  private readonly kept = new Map<LineMeter, number>()
  /** Per lane the meters at which calls stand, and what these cost. */
  private readonly lines = new Map<string, Map<LineMeter, number>>()
  nextMs = Number.POSITIVE_INFINITY

  constructor(
    readonly number: number,
    private readonly atMs: number,
  ) {}

  again(atMs: number): void {
    this.nextMs = Math.min(this.nextMs, atMs)
  }

  /** A call that can start takes its room. */
  keep({ meters }: Waiting): void {
    for (const { meter, cost } of meters) this.keepAt(meter, cost)
  }

  private keepAt(meter: LineMeter, cost: number): void {
    this.kept.set(meter, (this.kept.get(meter) ?? 0) + cost)
  }

  /** A call that stands at one meter keeps its room at the others, as far as it waits no longer than it may keep that. @returns whether it keeps any */
  keepAhead({ meters }: Waiting, { meter: at, waitMs }: Stands): boolean {
    let keeps = false
    for (const { meter, cost } of meters) {
      const { form } = meter
      // The room of a window is used up once: the call that comes first may have it for as long as the window lasts.
      const aheadMs = form !== null && 'windowMs' in form ? Math.max(form.windowMs, KEPT_AHEAD_MS) : KEPT_AHEAD_MS
      if (waitMs > aheadMs) continue
      keeps = true
      // In the line where it stands it is before the others anyway.
      if (meter !== at) this.keepAt(meter, cost)
    }
    return keeps
  }

  /** The meter at which a call stands: one with a line before it, else the one that has room last. undefined: all have room. */
  standing({ group, meters }: Waiting): Stands | undefined {
    const lines = this.lines.get(group.lane) ?? new Map<LineMeter, number>()
    this.lines.set(group.lane, lines)
    for (const { meter, cost } of meters) {
      const before = lines.get(meter)
      if (before === undefined) continue
      lines.set(meter, before + cost)
      return { meter, waitMs: meter.roomAt(this.atMs, cost, before + (this.kept.get(meter) ?? 0)) - this.atMs }
    }
    let last: { readonly meter: LineMeter; readonly cost: number } | undefined
    let roomMs = this.atMs
    for (const one of meters) {
      const meterMs = one.meter.roomAt(this.atMs, one.cost, this.kept.get(one.meter) ?? 0)
      if (meterMs <= this.atMs) continue
      this.again(meterMs)
      if (last !== undefined && meterMs <= roomMs) continue
      last = one
      roomMs = meterMs
    }
    if (last === undefined) return undefined
    lines.set(last.meter, last.cost)
    return { meter: last.meter, waitMs: roomMs - this.atMs }
  }
}

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
  /** How often that was a meter of another rule than before. */
  moves: number
}

/**
 * A call that two busy rules refuse in turn keeps room at one of them until the other one has some: after one move a second ahead, after three as
 * long as it takes. That room is lost on purpose, so that two busy rules cannot keep a call waiting for ever.
 */
export const KEPT_AHEAD_MS = 1000
const MOVES_BEFORE_ANY = 3

function ruleOf({ name }: LineMeter): string {
  return name.slice(0, name.indexOf('/') + 1)
}

function keepsAhead({ moves }: Waiting, waitMs: number): boolean {
  return moves >= MOVES_BEFORE_ANY || (moves > 0 && waitMs <= KEPT_AHEAD_MS)
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
      group = { asked, lane, unjudged, meters: this.metersOf(asked, atMs), size: 0, boundBy: undefined, closedIn: 0 }
      this.groups.set(key, group)
    }
    group.size++
    const waiting: Waiting = { story, group, meters: this.costsOf(story, group), dueMs: undefined, boundBy: undefined, moves: 0 }
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
    const number = ++this.looks
    const kept = new Map<LineMeter, number>()
    const keep = ({ meters }: Waiting) => {
      for (const { meter, cost } of meters) kept.set(meter, (kept.get(meter) ?? 0) + cost)
    }
    const closed = new Map<string, Set<LineMeter>>()
    const places = new Map<string, number>()
    const due: Waiting[] = []
    let nextMs = Number.POSITIVE_INFINITY
    let open = this.closeHindered(number, atMs)
    for (const waiting of this.waiting) {
      if (open === 0) break
      const { group } = waiting
      if (group.closedIn === number) continue
      const taken = closed.get(group.lane)
      const before = taken && waiting.meters.find(({ meter }) => taken.has(meter))
      const bound = before === undefined ? boundMeters(waiting, atMs, kept) : undefined
      if (before !== undefined || bound !== undefined) {
        group.closedIn = number
        open--
        group.boundBy = before?.meter ?? bound?.last
      }
      if (before !== undefined) continue
      if (bound !== undefined) {
        if (waiting.boundBy !== undefined && ruleOf(waiting.boundBy) !== ruleOf(bound.last)) waiting.moves++
        waiting.boundBy = bound.last
        if (keepsAhead(waiting, bound.roomMs - atMs)) keep(waiting)
        nextMs = Math.min(nextMs, bound.firstMs)
        closed.set(group.lane, (taken ?? new Set()).add(bound.last))
        continue
      }
      if (!this.takesPlace(waiting, places, atMs)) continue
      due.push(waiting)
      waiting.boundBy ??= group.boundBy
      // A call that does not go on for so long keeps the others waiting no more.
      const keepsUntilMs = (waiting.dueMs ?? atMs) + this.bounds.lateSickMs
      if (keepsUntilMs <= atMs) continue
      keep(waiting)
      const toldMs = (waiting.dueMs ?? atMs) + this.bounds.stepMs
      nextMs = Math.min(nextMs, toldMs > atMs ? toldMs : keepsUntilMs)
    }
    this.due = due
    return nextMs
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
  backlog(atMs: number): Map<LineMeter, number> {
    const backlog = new Map<LineMeter, number>()
    for (const { size, boundBy, unjudged } of this.groups.values()) if (size > 0 && boundBy !== undefined && !unjudged) backlog.set(boundBy, 0)
    for (const { boundBy, dueMs = atMs, meters } of this.due) {
      if (boundBy === undefined || (boundBy.form?.kind === 'slots' && dueMs + this.bounds.stepMs > atMs)) continue
      backlog.set(boundBy, (backlog.get(boundBy) ?? 0) + (meters.find(({ meter }) => meter === boundBy)?.cost ?? 0))
    }
    return backlog
  }
}

/** The meter that has room for a call last: in its line the call stands. And when the first of those without room has some. undefined: all have room. */
function boundMeters(
  { meters }: Waiting,
  atMs: number,
  kept: ReadonlyMap<LineMeter, number>,
): { readonly last: LineMeter; readonly roomMs: number; readonly firstMs: number } | undefined {
  let last: LineMeter | undefined
  let roomMs = atMs
  let firstMs = Number.POSITIVE_INFINITY
  for (const { meter, cost } of meters) {
    const meterMs = meter.roomAt(atMs, cost, kept.get(meter) ?? 0)
    if (meterMs <= atMs) continue
    firstMs = Math.min(firstMs, meterMs)
    if (last !== undefined && meterMs <= roomMs) continue
    last = meter
    roomMs = meterMs
  }
  return last && { last, roomMs, firstMs }
}

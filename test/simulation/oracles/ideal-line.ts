import { costIn } from './coverage.js'
import type { Bounds } from './facts.js'
import type { History, Story } from './history.js'
import type { LineMeter, LineMeters } from './line-meters.js'

/** A call that waits. */
export interface Waiting {
  readonly story: Story
  /** Calls of one lane stand in the same lines. */
  readonly lane: string
  /** Waits, but is not judged: where it stands does not follow from facts. */
  readonly unjudged: boolean
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
const KEPT_AHEAD_MS = 1000
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
  hindrance(waiting: Waiting, atMs: number): 'sick' | 'other' | undefined
  freePlaces(queue: string, atMs: number): number
}

/**
 * The line as it could be at best: at each time it knows which calls could start, given the real charges of all others. A call can if all its
 * meters have room for it behind the calls before it that can, and no call before it in its lane stands at one of these meters.
 */
export class IdealLine {
  private waiting: Waiting[] = []
  due: readonly Waiting[] = []

  constructor(
    private readonly history: History,
    private readonly meters: LineMeters,
    private readonly surroundings: Surroundings,
    private readonly bounds: Bounds,
  ) {}

  enter(story: Story, lane: string, unjudged: boolean, atMs: number): void {
    const waiting: Waiting = { story, lane, unjudged, meters: [], dueMs: undefined, boundBy: undefined, moves: 0 }
    this.resolve(waiting, atMs)
    let place = this.waiting.length
    while (place > 0 && (this.waiting[place - 1] as Waiting).story.rank > story.rank) place--
    this.waiting.splice(place, 0, waiting)
  }

  leave(story: Story): void {
    const place = this.waiting.findIndex((one) => one.story === story)
    if (place >= 0) this.waiting.splice(place, 1)
  }

  /** The limits have changed: each call has other meters. */
  resolveAll(atMs: number): void {
    for (const waiting of this.waiting) this.resolve(waiting, atMs)
  }

  private resolve(waiting: Waiting, atMs: number): void {
    const { scopes, costs } = waiting.story.asked
    const met = this.history.metersDuring(scopes, atMs, atMs).at(-1) ?? []
    waiting.meters = met.filter(({ form }) => form !== null).map((one) => ({ meter: this.meters.of(one), cost: costIn(one.limit, costs) }))
  }

  /** Finds the calls that can start at a time. @returns the next time at which more of them can, if nothing happens */
  look(atMs: number): number {
    const kept = new Map<LineMeter, number>()
    const closed = new Map<string, Set<LineMeter>>()
    const places = new Map<string, number>()
    const due: Waiting[] = []
    let nextMs = Number.POSITIVE_INFINITY
    for (const waiting of this.waiting) {
      const { lane, meters, story } = waiting
      const hindrance = this.surroundings.hindrance(waiting, atMs)
      if (waiting.unjudged || hindrance !== undefined) {
        if (hindrance === 'sick') for (const { meter } of meters) meter.sickMs = atMs
        continue
      }
      const taken = closed.get(lane)
      const before = taken && meters.find(({ meter }) => taken.has(meter))
      if (before !== undefined) {
        waiting.boundBy = before.meter
        continue
      }
      const bound = boundMeters(waiting, atMs, kept)
      if (bound !== undefined) {
        if (waiting.boundBy !== undefined && ruleOf(waiting.boundBy) !== ruleOf(bound.last)) waiting.moves++
        waiting.boundBy = bound.last
        if (keepsAhead(waiting, bound.roomMs - atMs)) for (const { meter, cost } of meters) kept.set(meter, (kept.get(meter) ?? 0) + cost)
        nextMs = Math.min(nextMs, bound.firstMs)
        closed.set(lane, (taken ?? new Set()).add(bound.last))
        continue
      }
      const { queue } = story.asked
      if (queue !== undefined) {
        const left = places.get(queue) ?? this.surroundings.freePlaces(queue, atMs)
        if (left <= 0) {
          for (const { meter } of meters) meter.sickMs = atMs
          continue
        }
        places.set(queue, left - 1)
      }
      due.push(waiting)
      // A call that does not go on for so long keeps the others waiting no more.
      const keepsUntilMs = (waiting.dueMs ?? atMs) + this.bounds.lateSickMs
      if (keepsUntilMs <= atMs) continue
      nextMs = Math.min(nextMs, keepsUntilMs)
      const toldMs = (waiting.dueMs ?? atMs) + this.bounds.stepMs
      if (toldMs > atMs) nextMs = Math.min(nextMs, toldMs)
      for (const { meter, cost } of meters) kept.set(meter, (kept.get(meter) ?? 0) + cost)
    }
    this.due = due
    return nextMs
  }

  /** The meters at which calls stand, or stood last, and what the calls there cost that could start. A free slot is told, not foreseen: that takes a step. */
  backlog(atMs: number): Map<LineMeter, number> {
    const backlog = new Map<LineMeter, number>()
    const due = new Set(this.due)
    for (const waiting of this.waiting) {
      const { boundBy } = waiting
      if (boundBy === undefined || waiting.unjudged) continue
      const isTold = boundBy.form?.kind !== 'slots' || (waiting.dueMs ?? atMs) + this.bounds.stepMs <= atMs
      const cost = due.has(waiting) && isTold ? (waiting.meters.find(({ meter }) => meter === boundBy)?.cost ?? 0) : 0
      backlog.set(boundBy, (backlog.get(boundBy) ?? 0) + cost)
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

import type { SimProcess } from './process.js'

/** Something that happens at a time: a timer fires, a command arrives, a reply is delivered. */
export interface SimEvent {
  readonly atMs: number
  /** Of events at one time the one that was added first happens first. */
  readonly order: number
  /** The process that runs in it; null: something outside of all processes. */
  readonly process: SimProcess | null
  /** What it is, for the journal. */
  readonly what: string
  readonly run: () => void | Promise<void>
  cancelled: boolean
}

function isBefore(a: SimEvent, b: SimEvent): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)
}

/** The events to come, by time: a binary heap. */
export class EventQueue {
  private readonly heap: SimEvent[] = []
  private added = 0

  get next(): SimEvent | undefined {
    return this.heap[0]
  }

  add(atMs: number, process: SimProcess | null, what: string, run: SimEvent['run']): SimEvent {
    const event: SimEvent = { atMs, order: this.added++, process, what, run, cancelled: false }
    const { heap } = this
    let at = heap.length
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (!isBefore(event, heap[parent] as SimEvent)) break
      heap[at] = heap[parent] as SimEvent
      at = parent
    }
    heap[at] = event
    return event
  }

  take(): SimEvent | undefined {
    const { heap } = this
    const first = heap[0]
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return first
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1] as SimEvent, heap[child] as SimEvent)) child++
      if (!isBefore(heap[child] as SimEvent, last)) break
      heap[at] = heap[child] as SimEvent
      at = child
    }
    heap[at] = last
    return first
  }
}

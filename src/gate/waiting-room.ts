import type { Asked } from './asked.js'

/** What became of one try: let in, told to wait at a meter (for a time, if it is known), or refused for good. */
export type Try<T> = { readonly entered: T } | { readonly waitMs: number; readonly line: string }

/** Timers cannot be set further ahead. */
const LONGEST_TIMER_MS = 2 ** 31 - 1

interface Waiter<T> {
  /** The order in which they came, whatever line they stand in. */
  readonly place: number
  readonly lines: readonly string[]
  readonly attempt: () => Promise<Try<T>>
  /** Gives back what an attempt got that came too late. */
  readonly undo: (entered: T) => void
  readonly resolve: (entered: T) => void
  readonly reject: (error: unknown) => void
  left: boolean
}

interface Line<T> {
  readonly waiters: Waiter<T>[]
  timer: NodeJS.Timeout | undefined
  trying: boolean
  /** Room came back while the first was trying. */
  again: boolean
}

/** The lines that a call may stand in: one per rule and scope value. */
export function linesOf(asked: Asked): string[] {
  return asked.demand.parts.map(({ rule, value }) => `${rule.name}/${value}`)
}

/**
 * Those in this process who wait until the gate lets them in. They stand in a line per rule
 * and scope value, in the order in which they came; only the first of a line asks, when there
 * is to be room, or room came back in this process. A newcomer does not overtake.
 */
export class WaitingRoom<T> {
  private readonly lines = new Map<string, Line<T>>()
  private places = 0

  enter(lines: readonly string[], attempt: () => Promise<Try<T>>, undo: (entered: T) => void, signal: AbortSignal | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(signal.reason as Error)
        return
      }
      const abort = () => {
        waiter.left = true
        this.leave(waiter)
        reject(signal?.reason as Error)
      }
      const done = () => signal?.removeEventListener('abort', abort)
      const waiter: Waiter<T> = {
        place: ++this.places,
        lines,
        attempt,
        undo,
        left: false,
        resolve: (entered) => {
          done()
          resolve(entered)
        },
        reject: (error) => {
          done()
          reject(error as Error)
        },
      }
      signal?.addEventListener('abort', abort, { once: true })
      const before = lines.find((line) => this.lines.has(line))
      if (before === undefined) void this.try(waiter)
      else this.join(before, waiter)
    })
  }

  /** Room came back at these lines. */
  stir(lines: readonly string[]): void {
    for (const name of lines) {
      const line = this.lines.get(name)
      if (line !== undefined) this.look(name, line)
    }
  }

  /** Nobody waits any longer. */
  close(error: Error): void {
    for (const line of this.lines.values()) {
      clearTimeout(line.timer)
      for (const waiter of line.waiters) {
        waiter.left = true
        waiter.reject(error)
      }
    }
    this.lines.clear()
  }

  private join(name: string, waiter: Waiter<T>): Line<T> {
    let line = this.lines.get(name)
    if (line === undefined) {
      line = { waiters: [], timer: undefined, trying: false, again: false }
      this.lines.set(name, line)
    }
    const behind = line.waiters.findIndex(({ place }) => place > waiter.place)
    line.waiters.splice(behind < 0 ? line.waiters.length : behind, 0, waiter)
    return line
  }

  private leave(waiter: Waiter<T>): void {
    for (const [name, line] of this.lines) {
      const index = line.waiters.indexOf(waiter)
      if (index < 0) continue
      line.waiters.splice(index, 1)
      if (line.waiters.length === 0) this.drop(name, line)
      else if (index === 0) this.look(name, line)
    }
  }

  private drop(name: string, line: Line<T>): void {
    clearTimeout(line.timer)
    if (this.lines.get(name) === line) this.lines.delete(name)
  }

  /** The first of a line tries; the next does when it is gone. */
  private look(name: string, line: Line<T>): void {
    if (line.trying) {
      line.again = true
      return
    }
    const [first] = line.waiters
    if (first === undefined) {
      this.drop(name, line)
      return
    }
    clearTimeout(line.timer)
    line.trying = true
    line.again = false
    void this.try(first).then(() => {
      line.trying = false
      if (line.waiters.length === 0) this.drop(name, line)
      else if (line.waiters[0] !== first || line.again) this.look(name, line)
    })
  }

  /** Settles the waiter, or leaves it at the head of the line that it has to wait in. */
  private async try(waiter: Waiter<T>): Promise<void> {
    try {
      const tried = await waiter.attempt()
      if ('entered' in tried) {
        if (waiter.left) waiter.undo(tried.entered)
        else this.finish(waiter, () => waiter.resolve(tried.entered))
        return
      }
      if (!waiter.left) this.wait(waiter, tried.line, tried.waitMs)
    } catch (error) {
      this.finish(waiter, () => waiter.reject(error))
    }
  }

  private finish(waiter: Waiter<T>, how: () => void): void {
    for (const line of this.lines.values()) {
      const index = line.waiters.indexOf(waiter)
      if (index >= 0) line.waiters.splice(index, 1)
    }
    how()
  }

  private wait(waiter: Waiter<T>, name: string, waitMs: number): void {
    for (const [other, line] of this.lines) {
      const index = other === name ? -1 : line.waiters.indexOf(waiter)
      if (index >= 0) line.waiters.splice(index, 1)
    }
    const known = this.lines.get(name)
    const line = known?.waiters.includes(waiter) === true ? known : this.join(name, waiter)
    // Whoever stands before it asks first.
    if (line.waiters[0] !== waiter) return
    clearTimeout(line.timer)
    line.timer = setTimeout(() => this.look(name, line), Math.min(waitMs, LONGEST_TIMER_MS))
  }
}

import type { AdmissionRequest } from '../admission/request.js'

/** What became of one try: let in, told to wait at a meter (for a time, if it is known), or refused for good. */
export type AcquireAttempt<T> = { readonly entered: T } | { readonly waitMs: number; readonly line: string }

/** Timers cannot be set further ahead. */
const LONGEST_TIMER_MS = 2 ** 31 - 1

interface AcquireWaiter<T> {
  /** The order in which they came, whatever line they stand in. */
  readonly place: number
  /** Those it may have to stand in. */
  readonly lines: readonly string[]
  readonly attempt: () => Promise<AcquireAttempt<T>>
  /** Gives back what an attempt got that came too late. */
  readonly undo: (entered: T) => Promise<unknown>
  readonly resolve: (entered: T) => void
  readonly reject: (error: unknown) => void
  left: boolean
  /** Room came back while it was asking: what it is answered may be out of date. */
  stirred: boolean
}

interface AcquireLine<T> {
  readonly waiters: AcquireWaiter<T>[]
  timer: NodeJS.Timeout | undefined
  trying: boolean
  /** Room came back while the first was trying. */
  again: boolean
}

/** The lines that a call may stand in: one per rule and scope value. */
export function linesOf(request: AdmissionRequest): string[] {
  return request.meters.map(({ rule, value }) => `${rule.name}/${value}`)
}

/**
 * Those in this process who wait until the gate lets them in. They stand in a line per rule
 * and scope value, in the order in which they came; only the first of a line asks, when there
 * is to be room, or room came back in this process. A newcomer does not overtake.
 */
export class AcquireLines<T> {
  private readonly lines = new Map<string, AcquireLine<T>>()
  /** Attempts under way: what they get is given back where nobody waits for it any more. */
  private readonly trying = new Map<AcquireWaiter<T>, Promise<void>>()
  private places = 0
  private closed: Error | undefined

  enter(
    lines: readonly string[],
    attempt: () => Promise<AcquireAttempt<T>>,
    undo: (entered: T) => Promise<unknown>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.closed !== undefined || signal?.aborted === true) {
        reject(this.closed ?? (signal?.reason as Error))
        return
      }
      const abort = () => {
        this.leave(waiter)
        waiter.reject(signal?.reason)
      }
      const done = () => signal?.removeEventListener('abort', abort)
      const waiter: AcquireWaiter<T> = {
        place: ++this.places,
        lines,
        attempt,
        undo,
        left: false,
        stirred: false,
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
    for (const waiter of this.trying.keys()) waiter.stirred ||= waiter.lines.some((name) => lines.includes(name))
    for (const name of lines) {
      const line = this.lines.get(name)
      if (line !== undefined) this.look(name, line)
    }
  }

  /** What they wait for may be different now. */
  stirAll(): void {
    for (const waiter of this.trying.keys()) waiter.stirred = true
    this.stir([...this.lines.keys()])
  }

  /** Nobody waits any longer. Resolves when nothing is under way, and what came too late was given back. */
  async close(error: Error): Promise<void> {
    this.closed ??= error
    for (const line of this.lines.values()) {
      clearTimeout(line.timer)
      for (const waiter of line.waiters.splice(0)) this.turnAway(waiter, error)
    }
    this.lines.clear()
    for (const waiter of this.trying.keys()) this.turnAway(waiter, error)
    await Promise.all(this.trying.values())
  }

  private turnAway(waiter: AcquireWaiter<T>, error: Error): void {
    waiter.left = true
    waiter.reject(error)
  }

  private join(name: string, waiter: AcquireWaiter<T>): AcquireLine<T> {
    let line = this.lines.get(name)
    if (line === undefined) {
      line = { waiters: [], timer: undefined, trying: false, again: false }
      this.lines.set(name, line)
    }
    const behind = line.waiters.findIndex(({ place }) => place > waiter.place)
    line.waiters.splice(behind < 0 ? line.waiters.length : behind, 0, waiter)
    return line
  }

  private leave(waiter: AcquireWaiter<T>): void {
    waiter.left = true
    for (const [name, line] of this.lines) {
      const index = line.waiters.indexOf(waiter)
      if (index < 0) continue
      line.waiters.splice(index, 1)
      if (line.waiters.length === 0) this.drop(name, line)
      else if (index === 0) this.look(name, line)
    }
  }

  private drop(name: string, line: AcquireLine<T>): void {
    clearTimeout(line.timer)
    if (this.lines.get(name) === line) this.lines.delete(name)
  }

  /** The first of a line tries; the next does when it is gone. */
  private look(name: string, line: AcquireLine<T>): void {
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

  private try(waiter: AcquireWaiter<T>): Promise<void> {
    waiter.stirred = false
    const tried: Promise<void> = this.attempt(waiter).finally(() => {
      if (this.trying.get(waiter) === tried) this.trying.delete(waiter)
    })
    this.trying.set(waiter, tried)
    return tried
  }

  /** Settles the waiter, or leaves it at the head of the line that it has to wait in. */
  private async attempt(waiter: AcquireWaiter<T>): Promise<void> {
    try {
      const tried = await waiter.attempt()
      if ('entered' in tried) {
        if (waiter.left) await waiter.undo(tried.entered)
        else this.finish(waiter, () => waiter.resolve(tried.entered))
      } else if (!waiter.left) this.wait(waiter, tried.line, tried.waitMs)
    } catch (error) {
      this.finish(waiter, () => waiter.reject(error))
    }
  }

  private finish(waiter: AcquireWaiter<T>, how: () => void): void {
    for (const line of this.lines.values()) {
      const index = line.waiters.indexOf(waiter)
      if (index >= 0) line.waiters.splice(index, 1)
    }
    how()
  }

  private wait(waiter: AcquireWaiter<T>, name: string, waitMs: number): void {
    for (const [other, line] of this.lines) {
      const index = other === name ? -1 : line.waiters.indexOf(waiter)
      if (index >= 0) line.waiters.splice(index, 1)
    }
    const known = this.lines.get(name)
    const line = known?.waiters.includes(waiter) === true ? known : this.join(name, waiter)
    // Whoever stands before it asks first.
    if (line.waiters[0] !== waiter) return
    clearTimeout(line.timer)
    if (waiter.stirred) this.look(name, line)
    else line.timer = setTimeout(() => this.look(name, line), Math.min(waitMs, LONGEST_TIMER_MS))
  }
}

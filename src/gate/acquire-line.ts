import type { AdmissionRequest } from '../admission/request.js'
import type { Call } from '../model/call.js'
import type { Binding } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import type { WaitReason } from '../model/wait-reason.js'
import { onAbort } from '../redis/bounded-wait.js'

/** What the first of a line waits for, as its last attempt said. */
export interface AcquireWait {
  readonly binding: Binding
  readonly waitsFor: WaitReason
  /** When there is room, by `performance.now()`; null where that is unknown. */
  readonly roomAtMs: number | null
}

/** The result of one try: granted, or to be repeated (`waitMs` at the latest) from the head of a line. */
export type AcquireAttempt<T> = { readonly granted: T } | ({ readonly waitMs: number; readonly line: string } & AcquireWait)

interface AcquireWaiter<T> {
  /** The order of arrival, over all lines. */
  readonly place: number
  /** The names of the lines it may have to stand in. */
  readonly lines: readonly string[]
  readonly attempt: () => Promise<AcquireAttempt<T>>
  readonly call: Call
  readonly sinceMs: number
  /** Gives back a grant that came after the waiter had left. */
  readonly undo: (granted: T) => Promise<unknown>
  readonly resolve: (granted: T) => void
  readonly reject: (error: unknown) => void
  left: boolean
  /** Room came back while its attempt was under way: the result of the attempt may be out of date. */
  woken: boolean
}

interface AcquireLine<T> {
  readonly waiters: AcquireWaiter<T>[]
  /** Undefined before the first attempt of a waiter that stands in it. */
  waits: AcquireWait | undefined
  timer: NodeJS.Timeout | undefined
  /** Whether the attempt of its first waiter is under way. */
  trying: boolean
  /** Room came back during that attempt. */
  again: boolean
}

/** The names of the lines that a call may stand in: one per rule and scope value. */
export function linesOf(request: AdmissionRequest): string[] {
  return request.meters.map(({ rule, value }) => `${rule.name}/${value}`)
}

/**
 * The calls of this process that wait in `acquire`.
 *
 * Model. A waiter whose attempt finds no room learns which rule and scope value it waits for, and after how many ms there is room. It stands in the
 * line of that rule and scope value, in order of arrival. Only the first of a line makes attempts, so the store gets one request for each line,
 * however many calls wait. A newcomer that meets a line stands in it at once, without an attempt: it does not overtake.
 *
 *     enter ── no line ──▶ attempt ── granted ──▶ resolved
 *       │                   ▲   │ no room
 *       │ a line            │   ▼
 *       └──────────────▶ in line ── signal, close ──▶ rejected (a grant that comes later is given back)
 *
 * The first of a line makes its next attempt
 * - when its timer fires: the time after which the store expects room (250 ms for concurrency slots, since no time
 *   is known there), after a second at the latest: the calls of queues that it expects to go first may have no worker,
 * - when room came back in this process (`wake`), or the rules changed (`wakeAll`),
 * - when the waiter before it is gone.
 * If room comes back during an attempt, the attempt is repeated: its result may be older than the room.
 *
 * Other processes have lines of their own; between processes the order of arrival does not hold. Redis holds nothing for a waiter, so nothing is left
 * of it if the process dies. A grant on its way stays charged as its estimate then, like any grant that is not settled.
 */
export class AcquireLines<T> {
  private readonly lines = new Map<string, AcquireLine<T>>()
  private readonly attempts = new Map<AcquireWaiter<T>, Promise<void>>()
  private places = 0
  private closed: Error | undefined

  async enter(
    lines: readonly string[],
    call: Call,
    attempt: () => Promise<AcquireAttempt<T>>,
    undo: (granted: T) => Promise<unknown>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    if (this.closed !== undefined) throw this.closed
    signal?.throwIfAborted()
    let leaveSignal = () => {}
    const granted = new Promise<T>((resolve, reject) => {
      const waiter: AcquireWaiter<T> = {
        ...{ place: ++this.places, lines, call, sinceMs: performance.now(), attempt, undo, left: false, woken: false },
        ...{ resolve, reject },
      }
      const abort = () => {
        this.leave(waiter)
        reject(signal?.reason)
      }
      if (signal !== undefined) leaveSignal = onAbort(signal, abort)
      const before = lines.find((line) => this.lines.has(line))
      if (before === undefined) void this.try(waiter)
      else this.join(before, waiter)
    })
    return granted.finally(leaveSignal)
  }

  /** The lines and their calls, in the order in which the lines began. */
  list(): {
    readonly line: string
    readonly waits: AcquireWait | undefined
    readonly waiters: readonly Pick<AcquireWaiter<T>, 'call' | 'place' | 'sinceMs'>[]
  }[] {
    return [...this.lines].map(([line, { waits, waiters }]) => ({ line, waits, waiters }))
  }

  /** Room came back at these lines. */
  wake(lines: readonly string[]): void {
    for (const waiter of this.attempts.keys()) waiter.woken ||= waiter.lines.some((name) => lines.includes(name))
    for (const name of lines) {
      const line = this.lines.get(name)
      if (line !== undefined) this.look(name, line)
    }
  }

  /** The rules changed: each waiter may have room, or wait for another rule. */
  wakeAll(): void {
    for (const waiter of this.attempts.keys()) waiter.woken = true
    this.wake([...this.lines.keys()])
  }

  /** Rejects every waiter. Resolves when no attempt is under way, and late grants are given back. */
  async close(error: Error): Promise<void> {
    this.closed ??= error
    for (const line of this.lines.values()) {
      clearTimeout(line.timer)
      for (const waiter of line.waiters.splice(0)) this.turnAway(waiter, error)
    }
    this.lines.clear()
    for (const waiter of this.attempts.keys()) this.turnAway(waiter, error)
    await Promise.all(this.attempts.values())
  }

  private turnAway(waiter: AcquireWaiter<T>, error: Error): void {
    waiter.left = true
    waiter.reject(error)
  }

  private join(name: string, waiter: AcquireWaiter<T>): AcquireLine<T> {
    let line = this.lines.get(name)
    if (line === undefined) {
      line = { waiters: [], waits: undefined, timer: undefined, trying: false, again: false }
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

  /** Starts the attempt of the first waiter of a line; when that waiter is gone, the attempt of the next. */
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
    waiter.woken = false
    const attempt: Promise<void> = this.attempt(waiter).finally(() => {
      if (this.attempts.get(waiter) === attempt) this.attempts.delete(waiter)
    })
    this.attempts.set(waiter, attempt)
    return attempt
  }

  /** Ends the wait, or puts the waiter into the line in which it has to wait. */
  private async attempt(waiter: AcquireWaiter<T>): Promise<void> {
    try {
      const result = await waiter.attempt()
      if ('granted' in result) {
        if (waiter.left) return void (await waiter.undo(result.granted))
        this.takeOut(waiter)
        waiter.resolve(result.granted)
      } else if (!waiter.left) this.wait(waiter, result.line, result.waitMs, result)
    } catch (error) {
      this.takeOut(waiter)
      waiter.reject(error)
    }
  }

  /** Takes a waiter out of the line it stands in, unless that is the one to keep. */
  private takeOut(waiter: AcquireWaiter<T>, keep?: string): void {
    for (const [name, { waiters }] of this.lines) {
      const index = name === keep ? -1 : waiters.indexOf(waiter)
      if (index >= 0) waiters.splice(index, 1)
    }
  }

  private wait(waiter: AcquireWaiter<T>, name: string, waitMs: number, waits: AcquireWait): void {
    this.takeOut(waiter, name)
    const known = this.lines.get(name)
    const line = known?.waiters.includes(waiter) === true ? known : this.join(name, waiter)
    // The waiters before it make their attempts first.
    if (line.waiters[0] !== waiter) return
    line.waits = waits
    clearTimeout(line.timer)
    if (waiter.woken) this.look(name, line)
    else line.timer = setTimeout(() => this.look(name, line), Math.min(waitMs, DEFAULTS.acquireRecheckMs))
  }
}

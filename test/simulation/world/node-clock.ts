import crypto from 'node:crypto'
import { createRequire, syncBuiltinESMExports } from 'node:module'
import timersPromises from 'node:timers/promises'
import type { SimEvent } from './events.js'
import type { SimProcess } from './process.js'
import type { Random } from './random.js'
import { real } from './real-node.js'
import { EPOCH_MS } from './server.js'
import type { World } from './world.js'

/** How late a timer of a healthy process fires at most. */
const TIMER_LATE_MS = 0.5

const require = createRequire(import.meta.url)

/** The world that programs see now. Modules are loaded once for all seeds, so they find their world here. */
let world: World | undefined

function present(): World {
  if (world === undefined) throw new Error('a program ran outside of a simulated world')
  return world
}

export function enter(entered: World): void {
  world = entered
}

class SimTimer {
  event: SimEvent | undefined
  readonly process: SimProcess | null
  private readonly id: number
  private static made = 0

  constructor(
    private readonly fire: () => void,
    private readonly ms: number,
    private readonly repeats: boolean,
  ) {
    this.process = present().current
    this.id = ++SimTimer.made
    this.arm()
  }

  ref(): this {
    return this
  }
  unref(): this {
    return this
  }
  hasRef(): boolean {
    return true
  }
  refresh(): this {
    this.close()
    this.arm()
    return this
  }
  close(): void {
    if (this.event !== undefined) this.event.cancelled = true
  }
  [Symbol.dispose](): void {
    this.close()
  }
  [Symbol.toPrimitive](): number {
    return this.id
  }

  private arm(): void {
    const { nowMs } = present()
    const lateMs = this.process === null ? 0 : this.process.timerChance.next() * TIMER_LATE_MS
    this.event = present().at(nowMs + Math.max(1, Number(this.ms) || 1) + lateMs, this.process, 'timer', () => {
      if (this.repeats) this.arm()
      this.fire()
    })
  }
}

function clearTimer(timer: unknown): void {
  if (timer instanceof SimTimer) timer.close()
  else real.clearTimeout(timer as NodeJS.Timeout)
}

function wallClockMs(): number {
  const { nowMs, current } = present()
  return Math.floor(nowMs + (current?.clockSkewMs ?? 0))
}

function chance(): Random {
  const { current, chance: source } = present()
  return current?.chance ?? source.stream('outside of all processes')
}

function randomBytes(size: number): Buffer {
  const random = chance()
  const bytes = Buffer.alloc(size)
  for (let at = 0; at < size; at++) bytes[at] = random.int(256)
  return bytes
}

function randomUUID(): string {
  const hex = randomBytes(16).toString('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20)}`
}

function sleep(ms: number, value?: unknown, { signal }: { readonly signal?: AbortSignal } = {}): Promise<unknown> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(signal.reason)
      return
    }
    const aborted = () => {
      timer.close()
      reject(signal?.reason)
    }
    const timer = new SimTimer(
      () => {
        signal?.removeEventListener('abort', aborted)
        resolve(value)
      },
      ms,
      false,
    )
    signal?.addEventListener('abort', aborted, { once: true })
  })
}

type Callback = (...args: unknown[]) => void

function timer(fire: Callback, ms: number, args: readonly unknown[], repeats: boolean): SimTimer {
  return new SimTimer(() => fire(...args), ms, repeats)
}

const TIMERS = {
  setTimeout: (fire: Callback, ms: number, ...args: unknown[]) => timer(fire, ms, args, false),
  setInterval: (fire: Callback, ms: number, ...args: unknown[]) => timer(fire, ms, args, true),
  setImmediate: (run: Callback, ...args: unknown[]) => present().immediate(() => run(...args)),
  clearTimeout: clearTimer,
  clearInterval: clearTimer,
  clearImmediate: (immediate: { cancelled: boolean } | undefined) => {
    if (immediate !== undefined) immediate.cancelled = true
  },
}

/**
 * Replaces, for everything that is loaded after this, the clock, the timers and the chance of Node: `Date`, `performance.now`, timers (also
 * `node:timers` and `timers/promises`), `Math.random`, `crypto.randomUUID` and `randomBytes`.
 */
export function replaceNode(): void {
  class SimDate extends real.Date {
    constructor(...args: [] | [string | number | Date]) {
      super(...((args.length === 0 ? [wallClockMs()] : args) as [number]))
    }
    static override now(): number {
      return wallClockMs()
    }
  }
  Object.assign(globalThis, { Date: SimDate, ...TIMERS })
  Object.defineProperty(performance, 'now', { value: () => present().nowMs - EPOCH_MS + 1000, configurable: true })
  Math.random = () => chance().next()
  Object.assign(require('node:timers') as object, TIMERS)
  Object.assign(timersPromises, { setTimeout: sleep, setImmediate: (value: unknown) => new Promise((resolve) => TIMERS.setImmediate(() => resolve(value))) })
  Object.assign(crypto, { randomBytes, randomUUID })
  syncBuiltinESMExports()
  process.on('unhandledRejection', (error) => present().failed(present().current, error))
}

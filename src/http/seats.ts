import { setTimeout as delay } from 'node:timers/promises'
import { TollgateError } from '../model/errors.js'

/** The clients that the server holds: one that waits, or gets a stream, takes a seat. When the server closes they are told to go. */
export class Seats {
  private taken = 0
  private readonly closing = new AbortController()

  constructor(private readonly most: number) {}

  /** Aborts when the server closes. */
  get closed(): AbortSignal {
    return this.closing.signal
  }

  get count(): number {
    return this.taken
  }

  /** @returns what gives the seat back. @throws SERVER_BUSY */
  take(): () => void {
    if (this.closing.signal.aborted) throw new TollgateError('SERVER_BUSY', 'the server is closing')
    if (this.taken >= this.most) throw new TollgateError('SERVER_BUSY', `the server holds ${this.most} clients, as many as it may`)
    this.taken++
    let left = false
    return () => {
      if (!left) this.taken--
      left = true
    }
  }

  /** Waits; ends at once where the signal aborts or the server closes. */
  async sleep(ms: number, signal: AbortSignal): Promise<void> {
    await delay(ms, undefined, { signal: AbortSignal.any([signal, this.closing.signal]) }).catch(() => {})
    if (this.closing.signal.aborted) throw new TollgateError('SERVER_BUSY', 'the server is closing')
  }

  close(): void {
    this.closing.abort(new TollgateError('SERVER_BUSY', 'the server is closing'))
  }
}

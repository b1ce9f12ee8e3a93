import { DEFAULTS } from '../model/defaults.js'
import { within } from '../redis/bounded-wait.js'
import { isStoreError, StoreSilent } from '../redis/store-error.js'

export interface BreakerParts {
  /** How long one command may take. */
  readonly timeoutMs: number
  /** Whether a command would be sent now, and not be kept until there is a connection. */
  readonly connected: () => boolean
  /** One cheap command that writes. Resolves to Redis' time. */
  readonly probe: () => Promise<number>
  /** What has to be done between the answer to a probe and the next call. Resolves when nothing is left of it. */
  readonly catchUp: (answeredAtMs: number) => Promise<void>
  readonly opened: (cause: Error) => void
  readonly closed: () => void
}

type BreakerState =
  | { readonly kind: 'closed' }
  | { readonly kind: 'open'; readonly cause: Error; readonly delayMs: number; readonly timer: NodeJS.Timeout }
  | { readonly kind: 'probing'; readonly cause: Error; readonly delayMs: number; isThere: boolean }
  | { readonly kind: 'stopped'; readonly cause: Error | undefined }

/**
 * The circuit breaker between the gate and its Redis.
 *
 *     closed ──a command failed or was late──> open ──its time has come, or there is a connection──> probing
 *        ^                                      ^                                                       │
 *        │                                      └── failed: the next probe comes later, up to 250 ms ───┤
 *        └──────────────────────── answered, and what the outage left is in Redis ──────────────────────┘
 *
 * One failed command opens it, and one late command: a connection answers in order, so all commands behind a late one are late, too. When it opens,
 * all commands under way fail at once, whatever their answers are later. While it is open or probing nothing is sent but probes, one at a time: no
 * call of a user has to be the one that tries. A connection that is there again, or a probe that is answered after its time, shows that Redis is there:
 * the next probe is sent at once.
 *
 * A busy event loop is not a silent Redis. When the time of a command is over, the event loop first reads the answers that have arrived; the command
 * is late only if its answer is not among them. Commands that wait in this process (batches are sent one after the other) are timed from the moment
 * they are sent. All times are those of timers, which the clock of the machine does not move.
 *
 * If the process dies, nothing has to be cleared up: the state is in its memory only.
 */
export class CircuitBreaker {
  private state: BreakerState = { kind: 'closed' }
  /** Ends the waits for all commands under way. */
  private waits = new AbortController()
  /** How many commands, probes among them, Redis refused or did not answer in time. */
  failures = 0

  constructor(private readonly parts: BreakerParts) {}

  /** Why Redis is taken to be away; undefined while it is not. */
  get cause(): Error | undefined {
    return this.state.kind === 'closed' ? undefined : this.state.cause
  }

  get away(): boolean {
    return this.cause !== undefined
  }

  /** The answer to a command; must not be called while Redis is away. Fails at once when the breaker opens. */
  async watch<T>(send: () => Promise<T>): Promise<T> {
    try {
      return await this.within(send())
    } catch (error) {
      if (isStoreError(error)) {
        this.failures++
        this.trip(error)
      }
      throw error
    }
  }

  trip(cause: Error): void {
    if (this.away) return
    this.state = this.state.kind === 'stopped' ? { kind: 'stopped', cause } : this.open(cause, DEFAULTS.probeMs, DEFAULTS.probeMs)
    this.failWaiting(cause)
    this.parts.opened(cause)
  }

  /** There is a connection: the next probe is sent at once, or behind the one that is under way if that fails. */
  tryNow(): void {
    if (this.state.kind === 'probing') this.state.isThere = true
    if (this.state.kind !== 'open') return
    clearTimeout(this.state.timer)
    this.state = this.open(this.state.cause, this.state.delayMs, 0)
  }

  stop(): void {
    if (this.state.kind === 'open') clearTimeout(this.state.timer)
    this.state = { kind: 'stopped', cause: this.cause }
  }

  /** Fails where a command that was sent takes longer than it may, or the breaker opens meanwhile. */
  within<T>(sent: Promise<T>): Promise<T> {
    return within(this.parts.timeoutMs, sent, { signal: this.waits.signal })
  }

  private failWaiting(cause: Error): void {
    const { waits } = this
    this.waits = new AbortController()
    waits.abort(new StoreSilent(`Redis is away (${cause.message})`, { cause }))
  }

  private open(cause: Error, delayMs: number, inMs: number): BreakerState {
    const timer = setTimeout(() => void this.probe(cause, delayMs), inMs)
    timer.unref()
    return { kind: 'open', cause, delayMs, timer }
  }

  private async probe(cause: Error, delayMs: number): Promise<void> {
    const probing: BreakerState & { kind: 'probing' } = { kind: 'probing', cause, delayMs, isThere: false }
    this.state = probing
    let sent: Promise<number> | undefined
    let inTime = false
    try {
      if (!this.parts.connected()) throw new StoreSilent('there is no connection to Redis')
      sent = this.parts.probe()
      const answeredAtMs = await this.within(sent)
      inTime = true
      await this.parts.catchUp(answeredAtMs)
      if (this.state !== probing) return
      this.state = { kind: 'closed' }
      this.parts.closed()
    } catch (error) {
      const why = isStoreError(error) ? error : new StoreSilent('what an outage has left could not be taken in', { cause: error })
      this.failures++
      this.failWaiting(why)
      // A second probe behind one that is under way would be answered later still.
      const late = await sent?.then(
        () => !inTime,
        () => false,
      )
      const nextMs = Math.min(DEFAULTS.longestProbeMs, delayMs * 2)
      if (this.state === probing) this.state = this.open(why, nextMs, late === true || probing.isThere ? 0 : nextMs)
    }
  }
}

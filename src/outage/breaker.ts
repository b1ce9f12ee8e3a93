import { type CircuitBreakerPolicy, ConsecutiveBreaker, circuitBreaker, handleWhen } from 'cockatiel'
import { DEFAULTS } from '../model/defaults.js'
import { isStoreError, StoreSilent } from '../redis/store-error.js'

export interface BreakerParts {
  /** How long one command may take. */
  readonly timeoutMs: number
  /** Whether a command would be sent now, and not be kept until there is a connection. */
  readonly connected: () => boolean
  /** One cheap command that writes. */
  readonly probe: () => Promise<unknown>
  /** What has to be done between the first answer and the next call. Resolves when nothing is left of it. */
  readonly catchUp: () => Promise<void>
  readonly opened: (cause: Error) => void
  readonly closed: () => void
}

/**
 * The circuit breaker between the gate and its Redis. One failed command opens it, and one that
 * takes too long: a connection answers in order, so what comes after waits as long. While it is
 * open nothing is sent but probes, one at a time: a user's call never is the one that tries.
 *
 * What if the event loop stood still, and not Redis: a command is only late if its answer is not
 * among those that came meanwhile. What if commands wait on our side (a thousand checks at once
 * travel in turns): only the time from sending one to its answer is measured.
 */
export class Breaker {
  /** Why Redis is taken to be away; undefined while it is not. */
  cause: Error | undefined
  private readonly parts: BreakerParts
  private readonly policy: CircuitBreakerPolicy
  private readonly waiting = new Set<(error: Error) => void>()
  private timer: NodeJS.Timeout | undefined
  private delayMs: number = DEFAULTS.probeMs
  private trying = false
  private stopped = false

  constructor(parts: BreakerParts) {
    this.parts = parts
    // When to try again is said by our own timer: the policy's goes by the wall clock, which may be set back.
    this.policy = circuitBreaker(handleWhen(isStoreError), { halfOpenAfter: Number.NEGATIVE_INFINITY, breaker: new ConsecutiveBreaker(1) })
    this.policy.onBreak((reason) => this.open('error' in reason ? reason.error : new StoreSilent('Redis is away')))
  }

  get away(): boolean {
    return this.cause !== undefined
  }

  /**
   * What a command comes to; it must not be sent while Redis is away. Fails at once when the
   * breaker opens, whatever the command comes to later.
   */
  watch<T>(send: () => Promise<T>): Promise<T> {
    return this.policy.execute(() => this.within(send()))
  }

  /** Opens it: something else than a command has failed. */
  trip(cause: Error): void {
    if (this.away || this.stopped) return
    this.policy.execute(() => Promise.reject(cause)).catch(() => {})
  }

  /** There may be an answer now: tries at once. */
  tryNow(): void {
    if (this.away && !this.stopped) this.schedule(0)
  }

  /** Tries no more. Who still waits is told that Redis is away. */
  stop(): void {
    this.stopped = true
    clearTimeout(this.timer)
  }

  /** Fails where something takes longer than a command may. */
  within<T>(sent: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const late = () => fail(new StoreSilent(`Redis did not answer within ${this.parts.timeoutMs} ms`))
      // Answers that came while this process was busy are read before the check is made.
      const timer = setTimeout(() => setImmediate(() => this.waiting.has(fail) && late()), this.parts.timeoutMs)
      const done = () => {
        clearTimeout(timer)
        this.waiting.delete(fail)
      }
      const fail = (error: Error) => {
        done()
        reject(error)
      }
      this.waiting.add(fail)
      sent.then(
        (value) => {
          done()
          resolve(value)
        },
        (error: unknown) => fail(error as Error),
      )
    })
  }

  private open(cause: Error): void {
    const before = this.cause
    this.cause = cause
    const silent = new StoreSilent(`Redis is away (${cause.message})`, { cause })
    for (const fail of [...this.waiting]) fail(silent)
    if (before !== undefined) return
    this.delayMs = DEFAULTS.probeMs
    this.parts.opened(cause)
    this.schedule(this.delayMs)
  }

  private schedule(inMs: number): void {
    if (this.stopped) return
    clearTimeout(this.timer)
    this.timer = setTimeout(() => void this.try(), inMs)
    this.timer.unref()
  }

  private async try(): Promise<void> {
    if (this.trying || !this.away) return
    this.trying = true
    let probe: Promise<unknown> = Promise.resolve()
    try {
      if (!this.parts.connected()) throw new StoreSilent('there is no connection to Redis')
      await this.policy.execute(async () => {
        probe = this.parts.probe()
        await this.heal(probe)
      })
      this.trying = false
    } catch {
      // One that is under way is waited for: behind it another would only come later.
      await probe.catch(() => {})
      this.trying = false
      this.delayMs = Math.min(DEFAULTS.longestProbeMs, this.delayMs * 2)
      this.schedule(this.delayMs)
    }
  }

  /** Whatever fails here leaves it open: the policy takes other errors for an answer. */
  private async heal(probe: Promise<unknown>): Promise<void> {
    try {
      await this.within(probe)
      await this.parts.catchUp()
    } catch (error) {
      throw isStoreError(error) ? error : new StoreSilent('what an outage has left could not be taken in', { cause: error })
    }
    this.cause = undefined
    this.parts.closed()
  }
}

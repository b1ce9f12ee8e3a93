interface Waiting<Request, Reply> {
  readonly request: Request
  resolve(reply: Reply): void
  reject(error: unknown): void
}

/** From this many on, the waiting requests are sent in two halves where no call is under way, so that both sides have work. */
const WORTH_HALVING = 16
/** Script calls under way at once: of those that a turn has filled, and of full ones. */
const UNDER_WAY = 2
const FULL_UNDER_WAY = 12

/**
 * Collects the requests of one turn of the event loop and sends them together, so that many checks cost one script call. Two such calls are under way
 * at most: while Redis works on one, the other is already there, and this process works on the reply to the one before. Requests that come meanwhile
 * are collected for the next call. With one call at a time Redis would be idle while this process works, and this process while Redis does.
 *
 * In a turn of many requests the first `full` ones are sent at once, and so on: Redis works on them while the turn goes on.
 */
export class Batcher<Request, Reply> {
  private waiting: Waiting<Request, Reply>[] = []
  private underWay = 0
  private scheduled = false

  /**
   * @param most how much may travel together, in what `weightOf` weighs
   * @param send answers each request in order; an Error in the place of an answer fails that request alone
   * @param full so many requests are sent before their turn has ended; default: none are
   */
  constructor(
    private readonly most: number,
    private readonly weightOf: (request: Request) => number,
    private readonly send: (requests: readonly Request[]) => Promise<readonly (Reply | Error)[]>,
    private readonly full = Number.POSITIVE_INFINITY,
  ) {}

  add(request: Request): Promise<Reply> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ request, resolve, reject })
      if (this.waiting.length >= this.full && this.underWay < FULL_UNDER_WAY) this.deliver(this.take(1))
      else this.schedule()
    })
  }

  private schedule(): void {
    if (this.scheduled || this.underWay >= UNDER_WAY || this.waiting.length === 0) return
    this.scheduled = true
    setImmediate(() => {
      this.scheduled = false
      // All of them may have been sent since.
      if (this.waiting.length === 0) return
      this.deliver(this.take(this.underWay === 0 && this.waiting.length >= WORTH_HALVING ? 2 : 1))
      this.schedule()
    })
  }

  /** The first requests that wait: one part of so many, as far as they may travel together. */
  private take(parts: number): Waiting<Request, Reply>[] {
    const wanted = Math.ceil(this.waiting.length / parts)
    let weight = 0
    let count = 0
    while (count < wanted) {
      weight += this.weightOf((this.waiting[count] as Waiting<Request, Reply>).request)
      if (count > 0 && weight > this.most) break
      count++
    }
    if (count === this.waiting.length) {
      const all = this.waiting
      this.waiting = []
      return all
    }
    return this.waiting.splice(0, count)
  }

  private deliver(some: readonly Waiting<Request, Reply>[]): void {
    this.underWay++
    this.send(some.map(({ request }) => request)).then(
      (replies) => {
        this.arrived()
        for (const [index, { resolve, reject }] of some.entries()) {
          const reply = replies[index] as Reply | Error
          if (reply instanceof Error) reject(reply)
          else resolve(reply)
        }
      },
      (error: unknown) => {
        this.arrived()
        for (const { reject } of some) reject(error)
      },
    )
  }

  private arrived(): void {
    this.underWay--
    this.schedule()
  }
}

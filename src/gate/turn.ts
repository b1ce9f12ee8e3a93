interface Waiting<Request, Reply> {
  readonly request: Request
  resolve(reply: Reply): void
  reject(error: unknown): void
}

/** From this many on, the first call takes half of what waits: see below. */
const WORTH_HALVING = 16

/**
 * Collects what is asked for in one turn of the event loop and sends it together, so
 * that many checks cost one script call. While one call is under way what is asked for
 * meanwhile is collected; it goes out when the answer comes, before the answer is handed
 * on. So Redis works on one half while this process works on the other: sending all at
 * once, or both halves at once (Redis answers them together), leaves each idle while the
 * other works.
 */
export class Turn<Request, Reply> {
  private readonly send: (requests: readonly Request[]) => Promise<readonly Reply[]>
  private readonly most: number
  private readonly weightOf: (request: Request) => number
  private waiting: Waiting<Request, Reply>[] = []
  private busy = false

  /** @param most how much may travel together, in what `weightOf` weighs */
  constructor(most: number, weightOf: (request: Request) => number, send: (requests: readonly Request[]) => Promise<readonly Reply[]>) {
    this.most = most
    this.weightOf = weightOf
    this.send = send
  }

  ask(request: Request): Promise<Reply> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ request, resolve, reject })
      if (this.busy) return
      this.busy = true
      setImmediate(() => this.deliver(this.take(this.waiting.length < WORTH_HALVING ? 1 : 2)))
    })
  }

  /** The first of those who wait: one part of so many, as far as they may travel together. */
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
    this.send(some.map(({ request }) => request)).then(
      (replies) => {
        this.next()
        for (const [index, { resolve }] of some.entries()) resolve(replies[index] as Reply)
      },
      (error: unknown) => {
        this.next()
        for (const { reject } of some) reject(error)
      },
    )
  }

  private next(): void {
    if (this.waiting.length === 0) this.busy = false
    else this.deliver(this.take(1))
  }
}

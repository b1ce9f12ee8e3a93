/**
 * Collects what is asked for in one turn of the event loop and sends it together, so
 * that a hundred checks cost one script call. Nothing waits longer than the turn.
 */
export class Turn<Request, Reply> {
  private readonly send: (requests: readonly Request[]) => Promise<readonly Reply[]>
  private readonly most: number
  private readonly weightOf: (request: Request) => number
  private waiting: { request: Request; resolve: (reply: Reply) => void; reject: (error: unknown) => void }[] = []

  /** @param most how much may travel together, in what `weightOf` weighs */
  constructor(most: number, weightOf: (request: Request) => number, send: (requests: readonly Request[]) => Promise<readonly Reply[]>) {
    this.most = most
    this.weightOf = weightOf
    this.send = send
  }

  ask(request: Request): Promise<Reply> {
    return new Promise((resolve, reject) => {
      if (this.waiting.length === 0) setImmediate(() => this.flush())
      this.waiting.push({ request, resolve, reject })
    })
  }

  private flush(): void {
    const all = this.waiting
    this.waiting = []
    let from = 0
    let weight = 0
    for (const [index, { request }] of all.entries()) {
      const more = this.weightOf(request)
      if (index > from && weight + more > this.most) {
        this.deliver(all.slice(from, index))
        from = index
        weight = 0
      }
      weight += more
    }
    this.deliver(from === 0 ? all : all.slice(from))
  }

  private deliver(some: typeof this.waiting): void {
    this.send(some.map(({ request }) => request)).then(
      (replies) => {
        for (const [index, { resolve }] of some.entries()) resolve(replies[index] as Reply)
      },
      (error: unknown) => {
        for (const { reject } of some) reject(error)
      },
    )
  }
}

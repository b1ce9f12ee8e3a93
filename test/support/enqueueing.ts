import { setTimeout as sleep } from 'node:timers/promises'
import type { Tollgate } from '../../src/index.js'

/** Calls c0, c1, … that are enqueued one after the other, until `end`: an app that goes on while Redis comes and goes. */
export class Enqueueing {
  /** The ids of those that were accepted, which are their payloads, too. */
  readonly accepted: string[] = []
  private going = true
  private readonly ended: Promise<void>

  /** @param pauseMs between two calls */
  constructor(
    private readonly tollgate: Tollgate,
    private readonly pauseMs: () => number,
  ) {
    this.ended = this.run()
  }

  /** Resolves when no call is under way any more. */
  async end(): Promise<void> {
    this.going = false
    await this.ended
  }

  private async run(): Promise<void> {
    for (let n = 0; this.going; n++) {
      const id = `c${n}`
      await this.tollgate.enqueue({ id, agent: 'llm', payload: id }).then(
        () => this.accepted.push(id),
        () => {},
      )
      await sleep(this.pauseMs())
    }
  }
}

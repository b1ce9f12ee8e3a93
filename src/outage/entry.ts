import type { Logger } from 'pino'
import { isUnavailable } from '../redis/store-error.js'

/** What a process does that came up without Redis, before its calls are decided on there. @param readRules takes over the rules of the namespace */
export type EnterNamespace = (readRules: () => Promise<void>) => Promise<void>

/** What is left to do of a start without Redis. */
export class Entry {
  /** Takes over the rules that Redis has. */
  readRules: () => Promise<void> = async () => {}
  private left: EnterNamespace | undefined
  private complaint: string | undefined

  constructor(private readonly log: Logger) {}

  get done(): boolean {
    return this.left === undefined
  }

  isLeft(enter: EnterNamespace): void {
    this.left = enter
  }

  /** Does it, where it is left: Redis is there. A failure that is not due to Redis is logged once. @returns whether it was left */
  async enter(): Promise<boolean> {
    if (this.left === undefined) return false
    try {
      await this.left(this.readRules)
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      if (!isUnavailable(error) && why !== this.complaint) {
        this.log.error({ err: error }, 'Redis is there, and this process cannot enter the namespace; it goes on without')
        this.complaint = why
      }
      throw error
    }
    this.left = undefined
    return true
  }
}

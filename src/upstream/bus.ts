import { z } from 'zod'

/**
 * Brings news of what agents said to the other processes of a namespace. It decides nothing:
 * the state in the store does, with the next script call. News that is lost, late or said
 * twice only means that a listener hears of it later, or not at all.
 */
export interface Bus {
  /** Sends to all others; says nothing of whether it arrived, and never fails. */
  publish(news: string): void
  /** Hears what others sent, and maybe what this one did. */
  listen(hear: (news: string) => void): void
  close(): Promise<void>
}

/** What carries news: Redis, this process' memory, or a NATS. */
export const busSchema = z.string().regex(/^(redis|memory|(nats|tls):\/\/\S+)$/, 'must be redis, memory or a nats:// or tls:// URL')

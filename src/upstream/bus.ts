import { z } from 'zod'

/**
 * Carries news of what agents said to the other processes of a namespace. The bus decides
 * nothing: the state in the store does, with the next script. Where news is lost, late or sent
 * twice, a listener is told later, twice, or not at all, and no decision changes.
 */
export interface Bus {
  /** Sends to all other processes, without a confirmation of arrival; never throws. */
  publish(news: string): void
  /** Calls `hear` with the news of other processes, and possibly with that of this one. */
  listen(hear: (news: string) => void): void
  close(): Promise<void>
}

/** The option `bus`: Redis, the memory of this process, or a NATS. */
export const busSchema = z.string().regex(/^(redis|memory|(nats|tls):\/\/\S+)$/, 'must be redis, memory or a nats:// or tls:// URL')

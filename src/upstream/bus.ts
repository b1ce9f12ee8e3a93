import { EventEmitter } from 'node:events'
import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import { z } from 'zod'
import { withoutArguments } from '../model/secrets.js'
import type { Subscription } from '../redis/subscription.js'

/**
 * Carries news of what agents said to the other processes of a namespace. The bus decides nothing: the state in the store does, with the next script.
 * Where news is lost, late or sent twice, a listener is told later, twice, or not at all, and no decision changes.
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

/** One event for each channel of this process. */
const channels = new EventEmitter().setMaxListeners(0)

/** Between the Tollgates of one process. */
export class MemoryBus implements Bus {
  private hear: ((news: string) => void) | undefined

  constructor(private readonly channel: string) {}

  publish(news: string): void {
    channels.emit(this.channel, news)
  }

  listen(hear: (news: string) => void): void {
    this.hear = hear
    channels.on(this.channel, hear)
  }

  close(): Promise<void> {
    if (this.hear !== undefined) channels.off(this.channel, this.hear)
    return Promise.resolve()
  }
}

/** Redis' publish and subscribe, over connections that the Tollgate has anyway and closes itself. */
export class RedisBus implements Bus {
  /** @param subscription must be subscribed to the channel by the caller */
  constructor(
    private readonly client: Redis,
    private readonly subscription: Subscription,
    private readonly channel: string,
    private readonly log: Logger,
  ) {}

  publish(news: string): void {
    // ioredis would keep the news until Redis is back; by then it is out of date.
    if (this.client.status !== 'ready') return
    this.client.publish(this.channel, news).catch((error: unknown) => this.log.debug({ err: withoutArguments(error) }, 'news of an agent did not get around'))
  }

  listen(hear: (news: string) => void): void {
    this.subscription.hear(this.channel, hear)
  }

  close(): Promise<void> {
    return Promise.resolve()
  }
}

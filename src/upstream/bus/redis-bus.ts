import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import type { Bus } from '../bus.js'

/** Redis' publish and subscribe, over connections that are there anyway and end with their Tollgate. */
export class RedisBus implements Bus {
  private readonly client: Redis
  private readonly subscriber: Redis
  private readonly channel: string
  private readonly log: Logger

  /** @param subscriber is subscribed to the channel by whoever opened it */
  constructor(client: Redis, subscriber: Redis, channel: string, log: Logger) {
    this.client = client
    this.subscriber = subscriber
    this.channel = channel
    this.log = log
  }

  publish(news: string): void {
    // Kept back while Redis is away it would only be old.
    if (this.client.status !== 'ready') return
    this.client.publish(this.channel, news).catch((error: unknown) => this.log.debug({ err: error }, 'news of an agent did not get around'))
  }

  listen(hear: (news: string) => void): void {
    this.subscriber.on('message', (channel: string, news: string) => {
      if (channel === this.channel) hear(news)
    })
  }

  close(): Promise<void> {
    return Promise.resolve()
  }
}

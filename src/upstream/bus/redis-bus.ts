import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import type { Bus } from '../bus.js'

/** Redis' publish and subscribe, over connections that the Tollgate has anyway and closes itself. */
export class RedisBus implements Bus {
  /** @param subscriber must be subscribed to the channel by the caller */
  constructor(
    private readonly client: Redis,
    private readonly subscriber: Redis,
    private readonly channel: string,
    private readonly log: Logger,
  ) {}

  publish(news: string): void {
    // ioredis would keep the news until Redis is back; by then it is out of date.
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

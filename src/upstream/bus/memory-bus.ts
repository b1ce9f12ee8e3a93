import type { Bus } from '../bus.js'

const channels = new Map<string, Set<(news: string) => void>>()

/** Between the Tollgates of one process. */
export class MemoryBus implements Bus {
  private hear: ((news: string) => void) | undefined

  constructor(private readonly channel: string) {}

  publish(news: string): void {
    for (const hear of channels.get(this.channel) ?? []) hear(news)
  }

  listen(hear: (news: string) => void): void {
    this.hear = hear
    const listeners = channels.get(this.channel) ?? new Set()
    channels.set(this.channel, listeners.add(hear))
  }

  close(): Promise<void> {
    const listeners = channels.get(this.channel)
    if (this.hear !== undefined) listeners?.delete(this.hear)
    if (listeners?.size === 0) channels.delete(this.channel)
    return Promise.resolve()
  }
}

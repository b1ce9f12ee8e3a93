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

const channels = new Map<string, Set<(news: string) => void>>()

/** Between the Tollgates of one process. */
export class MemoryBus implements Bus {
  private readonly channel: string
  private hear: ((news: string) => void) | undefined

  constructor(channel: string) {
    this.channel = channel
  }

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

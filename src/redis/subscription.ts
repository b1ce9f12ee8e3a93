import type { Redis } from 'ioredis'

type Hear = (message: string) => void

/** A connection that is subscribed to channels. */
interface Subscriber {
  readonly connection: Redis
  /** Who uses it. */
  readonly users: Set<Subscription>
  readonly byChannel: Map<string, Set<Subscription>>
  selected?: Promise<unknown>
}

/** By the client that was given, the subscriber that all share who were given it. */
const shared = new WeakMap<Redis, Subscriber>()

function subscriberOf(client: Redis): Subscriber {
  const byChannel: Subscriber['byChannel'] = new Map()
  // Each Tollgate that uses it listens to it.
  const connection = client.duplicate().setMaxListeners(0)
  connection.on('message', (channel: string, message: string) => {
    for (const user of [...(byChannel.get(channel) ?? [])]) user.told(channel, message)
  })
  return { connection, users: new Set(), byChannel }
}

/**
 * The channels that one Tollgate hears. The connection is its own, or, where the client was given, that of all Tollgates that were given it: a process
 * with a namespace for each of its tenants needs one connection for all of them, and one for what they hear.
 *
 * ioredis subscribes again when a connection is back. A channel is left with the last Tollgate that hears it, and the connection with the last of all.
 * If the process dies, there is nothing to clear up: Redis forgets both.
 */
export class Subscription {
  private readonly subscriber: Subscriber
  private readonly hears = new Map<string, Hear[]>()
  private readonly left: (() => void)[] = []

  /** @param given whether the client was given to Tollgate, and may be given to others */
  constructor(
    private readonly client: Redis,
    given: boolean,
  ) {
    const subscriber = (given ? shared.get(client) : undefined) ?? subscriberOf(client)
    if (given) shared.set(client, subscriber)
    subscriber.users.add(this)
    this.subscriber = subscriber
  }

  get connection(): Redis {
    return this.subscriber.connection
  }

  /** Fails where the database does not exist: ioredis goes on in database 0 then. */
  async select(): Promise<void> {
    const { subscriber, connection } = this
    // Not a second time: a connection that is subscribed takes no such command.
    subscriber.selected ??= connection.select(connection.options.db ?? 0).catch((error: unknown) => {
      delete subscriber.selected
      throw error
    })
    await subscriber.selected
  }

  async subscribe(...channels: string[]): Promise<void> {
    const { byChannel, users } = this.subscriber
    if (!users.has(this)) return
    for (const channel of channels) byChannel.set(channel, (byChannel.get(channel) ?? new Set()).add(this))
    await this.connection.subscribe(...channels)
  }

  hear(channel: string, hear: Hear): void {
    this.hears.set(channel, [...(this.hears.get(channel) ?? []), hear])
  }

  told(channel: string, message: string): void {
    for (const hear of this.hears.get(channel) ?? []) hear(message)
  }

  /** Calls a function when the connection is there again, until this is closed. */
  whenReady(callback: () => void): void {
    this.connection.on('ready', callback)
    this.onLeave(() => this.connection.off('ready', callback))
  }

  /** What to do when this is closed, and the connection goes on for others. */
  onLeave(callback: () => void): void {
    this.left.push(callback)
  }

  close(): void {
    const { users, byChannel } = this.subscriber
    if (!users.delete(this)) return
    if (users.size === 0) {
      if (shared.get(this.client) === this.subscriber) shared.delete(this.client)
      this.connection.disconnect()
      return
    }
    for (const leave of this.left) leave()
    for (const [channel, hearers] of byChannel) {
      if (!hearers.delete(this) || hearers.size > 0) continue
      byChannel.delete(channel)
      // One that subscribes to it right after this is sent behind it.
      this.connection.unsubscribe(channel).catch(() => {})
    }
  }
}

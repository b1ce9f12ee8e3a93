import { setTimeout as sleep } from 'node:timers/promises'
import { connect, type NatsConnection } from '@nats-io/transport-node'
import type { Logger } from 'pino'
import type { Bus } from '../bus.js'

const CONNECT_TIMEOUT_MS = 2000
const RETRY_MS = 500

/** Host, port and credentials of a nats:// or tls:// URL. */
function optionsOf(url: string) {
  const { protocol, host, username, password } = new URL(url)
  const credentials = username === '' ? {} : { user: decodeURIComponent(username), pass: decodeURIComponent(password) }
  return { servers: host, ...credentials, ...(protocol === 'tls:' ? { tls: {} } : {}) }
}

/**
 * NATS. It connects in the background and again by itself, for as long as it takes: who opens
 * a Tollgate does not wait for it, and while it is away news is dropped.
 */
export class NatsBus implements Bus {
  private readonly url: string
  private readonly subject: string
  private readonly log: Logger
  private readonly closing = new AbortController()
  private readonly listeners: ((news: string) => void)[] = []
  private readonly connecting: Promise<void>
  private connection: NatsConnection | undefined

  constructor(url: string, subject: string, log: Logger) {
    this.url = url
    this.subject = subject
    this.log = log
    this.connecting = this.connect()
  }

  publish(news: string): void {
    const { connection } = this
    if (connection === undefined || connection.isClosed()) return
    try {
      connection.publish(this.subject, news)
    } catch (error) {
      this.log.debug({ err: error }, 'news of an agent did not get around')
    }
  }

  listen(hear: (news: string) => void): void {
    this.listeners.push(hear)
  }

  async close(): Promise<void> {
    this.closing.abort()
    await this.connecting
    await this.connection?.close()
  }

  private async connect(): Promise<void> {
    let said = false
    while (!this.closing.signal.aborted) {
      try {
        this.connection = await connect({ ...optionsOf(this.url), timeout: CONNECT_TIMEOUT_MS, maxReconnectAttempts: -1, reconnectTimeWait: RETRY_MS })
        this.subscribe(this.connection)
        if (said) this.log.info('NATS is there')
        return
      } catch (error) {
        if (!said) this.log.warn({ err: error }, 'NATS cannot be reached; news of agents gets around by the state in Redis until it can')
        said = true
        await sleep(RETRY_MS, undefined, { signal: this.closing.signal }).catch(() => undefined)
      }
    }
  }

  private subscribe(connection: NatsConnection): void {
    connection.subscribe(this.subject, {
      callback: (error, message) => {
        if (error === null) for (const hear of this.listeners) hear(message.string())
      },
    })
  }
}

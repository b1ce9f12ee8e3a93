import { setTimeout as sleep } from 'node:timers/promises'
import type { NatsConnection } from '@nats-io/transport-node'
import type { Logger } from 'pino'
import { ConfigInvalid } from '../model/errors.js'
import type { Bus } from './bus.js'

const CONNECT_TIMEOUT_MS = 2000
const RETRY_MS = 500

export function isNats(bus: string | undefined): boolean {
  return bus !== undefined && /^(nats|tls):/.test(bus)
}

/** The NATS client: an optional peer dependency, loaded only where a NATS is configured. @throws ConfigInvalid where it is not installed, or another package */
export async function loadNats(): Promise<typeof import('@nats-io/transport-node')> {
  try {
    const nats = await import('@nats-io/transport-node')
    if (typeof nats.connect !== 'function') throw new Error('the one that is installed has no connect')
    return nats
  } catch (error) {
    const why = error instanceof Error ? error.message.split('\n')[0] : String(error)
    throw new ConfigInvalid(`bus: a NATS needs version 3 of the package @nats-io/transport-node; add it to your dependencies (${why})`)
  }
}

function optionsOf(url: string) {
  const { protocol, host, username, password } = new URL(url)
  const credentials = username === '' ? {} : { user: decodeURIComponent(username), pass: decodeURIComponent(password) }
  return { servers: host, ...credentials, ...(protocol === 'tls:' ? { tls: {} } : {}) }
}

/**
 * NATS. The bus connects in the background, and again whenever the connection is lost, without a limit of tries: opening a Tollgate does not wait for
 * it. While NATS is away news is dropped; other processes then learn of a block from the state in Redis with their next script.
 */
export class NatsBus implements Bus {
  private readonly closing = new AbortController()
  private readonly listeners: ((news: string) => void)[] = []
  private readonly connecting: Promise<void>
  private connection: NatsConnection | undefined

  constructor(
    private readonly url: string,
    private readonly subject: string,
    private readonly log: Logger,
  ) {
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
    const { connect } = await loadNats()
    let warned = false
    while (!this.closing.signal.aborted) {
      try {
        this.connection = await connect({ ...optionsOf(this.url), timeout: CONNECT_TIMEOUT_MS, maxReconnectAttempts: -1, reconnectTimeWait: RETRY_MS })
        this.subscribe(this.connection)
        if (warned) this.log.info('NATS is there')
        return
      } catch (error) {
        if (!warned) this.log.warn({ err: error }, 'NATS cannot be reached; news of agents gets around by the state in Redis until it can')
        warned = true
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

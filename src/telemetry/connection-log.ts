import type { Redis } from 'ioredis'
import type { Logger } from 'pino'

/** Says once that a connection is lost and once that it is back, however often it is tried meanwhile. */
export function logConnection(client: Redis, log: Logger, what: string): void {
  let lost = false
  client.on('error', (error: Error) => {
    if (lost) return
    lost = true
    log.warn({ err: error }, `${what}: lost; trying again until it is back`)
  })
  client.on('ready', () => {
    if (lost) log.info(`${what}: back`)
    lost = false
  })
}

import type { Redis } from 'ioredis'
import { type Logger, pino } from 'pino'

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

/** The log of a library that was given none: warnings and errors, to standard error. */
export function defaultLogger(): Logger {
  return pino({ name: 'tollgate', level: 'warn' }, pino.destination({ fd: 2, sync: true }))
}

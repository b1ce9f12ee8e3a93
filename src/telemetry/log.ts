import type { Redis } from 'ioredis'
import { type Logger, pino } from 'pino'
import { ConfigInvalid } from '../model/errors.js'
import { withoutArguments, withoutCredentials } from '../model/secrets.js'
import { show } from '../validation/faults.js'

/** Logs once that a connection is lost and once that it is back, however many attempts fail in between. @returns what ends that */
export function logConnection(client: Redis, log: Logger, what: string): () => void {
  let lost = false
  const onError = (error: Error) => {
    withoutArguments(error)
    if (lost) return
    lost = true
    log.warn({ err: error }, `${what}: lost; trying again until it is back`)
  }
  const onReady = () => {
    if (lost) log.info(`${what}: back`)
    lost = false
  }
  client.on('error', onError).on('ready', onReady)
  return () => {
    client.off('error', onError).off('ready', onReady)
  }
}

const LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']

/**
 * The logger of a Tollgate that was given none: warnings and errors, to standard error; the
 * level is LOG_LEVEL, where that is set. @throws ConfigInvalid where LOG_LEVEL is no level
 */
export function defaultLogger(environment: NodeJS.ProcessEnv = process.env): Logger {
  const level = environment['LOG_LEVEL'] || 'warn'
  if (!LEVELS.includes(level.toLowerCase())) throw new ConfigInvalid(`LOG_LEVEL must be one of ${LEVELS.join(', ')} (got ${show(level)})`)
  const serializers = { err: (error: Error) => pino.stdSerializers.err(withoutArguments(error)) }
  return pino({ name: 'tollgate', level: level.toLowerCase(), serializers }, pino.destination({ fd: 2, sync: true }))
}

/** A logger that gets no secrets, of errors or of the URLs in texts, and whose own errors concern no call. */
export function safeLogger(logger: Logger): Logger {
  const safe = Object.create(logger) as Logger
  for (const level of ['error', 'warn', 'info', 'debug'] as const) {
    safe[level] = (...given: unknown[]) => {
      try {
        const plain = (value: unknown) => (typeof value === 'string' ? withoutCredentials(value) : withoutArguments(value))
        const [details, ...rest] = given
        const first =
          details !== null && typeof details === 'object'
            ? Object.fromEntries(Object.entries(details).map(([name, value]) => [name, plain(value)]))
            : plain(details)
        ;(logger[level] as (...args: unknown[]) => void)(first, ...rest)
      } catch {
        // It cannot be logged that nothing can be logged.
      }
    }
  }
  return safe
}

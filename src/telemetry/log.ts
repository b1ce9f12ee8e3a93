import { type Logger, pino } from 'pino'

/** The log of a library that was given none: warnings and errors, to standard error. */
export function defaultLogger(): Logger {
  return pino({ name: 'tollgate', level: 'warn' }, pino.destination({ fd: 2, sync: true }))
}

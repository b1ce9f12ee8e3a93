import { type ErrorCode, TollgateError } from '../model/errors.js'

/** Done; refused or failed; the input was not valid; Redis did not answer. */
export const EXIT = { ok: 0, failed: 1, invalid: 2, unavailable: 3 } as const

const AWAY: readonly ErrorCode[] = ['REDIS_UNAVAILABLE', 'STORE_UNAVAILABLE']

/** Says an error of Tollgate on standard error and sets the exit code that goes with it; others are thrown on. */
export function fail(error: unknown): void {
  if (!(error instanceof TollgateError)) throw error
  console.error(`${error.code}: ${error.message}\n${error.todo}`)
  process.exitCode = AWAY.includes(error.code) ? EXIT.unavailable : error.code.endsWith('_INVALID') ? EXIT.invalid : EXIT.failed
}

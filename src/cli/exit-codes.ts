import { type ErrorCode, TollgateError } from '../model/errors.js'

/** ok: done; failed: refused or failed; invalid: the input was not valid; unavailable: Redis did not answer. */
export const EXIT = { ok: 0, failed: 1, invalid: 2, unavailable: 3 } as const

const UNAVAILABLE: readonly ErrorCode[] = ['REDIS_UNAVAILABLE', 'STORE_UNAVAILABLE']

/** Prints an error of Tollgate to standard error and sets its exit code; throws every other error again. */
export function fail(error: unknown): void {
  if (!(error instanceof TollgateError)) throw error
  console.error(`${error.code}: ${error.message}\n${error.todo}`)
  process.exitCode = UNAVAILABLE.includes(error.code) ? EXIT.unavailable : error.code.endsWith('_INVALID') ? EXIT.invalid : EXIT.failed
}

import { UnrecoverableError } from 'bullmq'
import { ERRORS, type ErrorCode, TollgateError } from '../errors.js'

/** An error as BullMQ keeps it: the code goes along in the text, and no attempt is made again. */
export function finalFailure(error: TollgateError): UnrecoverableError {
  return new UnrecoverableError(`${error.code}: ${error.message}`)
}

/** An error of ours as BullMQ keeps it: with its code, and tried again where that can help. */
export function failureOf(error: TollgateError): Error {
  return error.retryable ? new Error(`${error.code}: ${error.message}`, { cause: error }) : finalFailure(error)
}

/** The error of a job that BullMQ says has failed. */
export function callFailure(failedReason: string): TollgateError {
  const [, code, message] = /^([A-Z_]+): (.*)$/s.exec(failedReason) ?? []
  if (code !== undefined && Object.hasOwn(ERRORS, code)) return new TollgateError(code as ErrorCode, message ?? failedReason)
  return new TollgateError('CALL_FAILED', failedReason)
}

import { UnrecoverableError } from 'bullmq'
import { type Call, MAX_NAME_LENGTH } from '../model/call.js'
import { DEFAULTS } from '../model/defaults.js'
import { ERRORS, type ErrorCode, TollgateError } from '../model/errors.js'
import { validateCall } from '../validation/call.js'

/**
 * How long the BullMQ job of a waiting call is delayed: its estimated wait and a margin.
 * The drainer wakes it long before; the delay is for the case that no drainer lives.
 * @param etaMs null where nobody can know: then rarely, since each time costs a worker a look
 */
export function delayMs(etaMs: number | null): number {
  const wait = etaMs ?? DEFAULTS.unknownWaitMs
  const margin = Math.max(DEFAULTS.returnMarginMs, wait * DEFAULTS.returnMarginShare)
  return Math.ceil(Math.min(DEFAULTS.longestDelayMs, wait + margin))
}

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

const FIELDS = [
  'agent',
  'endpoint',
  'model',
  'user',
  'team',
  'org',
  'ip',
  'keys',
  'cost',
  'priority',
  'strategy',
  'deadline',
  'maxWaitMs',
  'deduplicationKey',
  'degraded',
] as const

/**
 * The call in a job that any BullMQ producer may have added. Data that names an `agent`
 * is read as a call (fields that are none of a call's are left to the payload); other
 * data is the payload of a call to an agent with the job's name.
 * @throws CallInvalid naming field, value and bound
 */
export function callOfJob(name: string, data: unknown): Call {
  if (data === null || typeof data !== 'object' || !('agent' in data)) {
    // Cut to length, and not through a character.
    const agent = name.length > MAX_NAME_LENGTH ? name.slice(0, MAX_NAME_LENGTH).replace(/[\ud800-\udbff]$/, '') : name
    return validateCall({ agent, payload: data })
  }
  const fields: Record<string, unknown> = {}
  for (const field of FIELDS) {
    const value = (data as Record<string, unknown>)[field]
    if (value !== undefined) fields[field] = value
  }
  return validateCall({ ...fields, payload: 'payload' in data ? data.payload : data })
}

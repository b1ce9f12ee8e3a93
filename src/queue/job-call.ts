import { type Call, MAX_NAME_LENGTH, validateCall } from '../call.js'

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

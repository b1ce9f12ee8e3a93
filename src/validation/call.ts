import { isIP } from 'node:net'
import { QueueKeys } from 'bullmq'
import { z } from 'zod'
import { type Call, MAX_AMOUNT, MAX_NAME_LENGTH, MAX_PRIORITY, MAX_RETURNS, MAX_WAIT_MS, STRATEGIES, type Strategy } from '../model/call.js'
import { COST_UNITS, type CostUnit } from '../model/cost.js'
import { CallInvalid } from '../model/errors.js'
import { isPlainEndpoint, normalEndpoint } from './endpoint.js'
import { checkInput, faultMessage, show, valueAt } from './faults.js'

const CUSTOM = /^custom:[A-Za-z0-9_-]{1,64}$/

/** A strategy in a call or a rule. */
export const strategySchema = z.custom<Strategy>(
  (value) => typeof value === 'string' && ((STRATEGIES as readonly string[]).includes(value) || CUSTOM.test(value)),
  `must be one of ${STRATEGIES.join(', ')} or custom:<name>`,
)
/** The longest wait of a call, in ms. */
export const waitMs = z.number(`must be a number of ms from 1 to ${MAX_WAIT_MS}`).min(1).max(MAX_WAIT_MS)

/** A name in a call: of an agent, endpoint, user, … */
export const callName = z
  .string()
  .min(1)
  .max(MAX_NAME_LENGTH)
  .refine((value) => !/\p{Cc}/u.test(value), 'must not contain control characters')
  .refine((value) => value.isWellFormed(), 'must be well-formed unicode')

/** An endpoint; the output is its one spelling. */
export const endpointName = callName.transform((given, context) => {
  const endpoint = normalEndpoint(given)
  if (endpoint !== null && endpoint.length <= MAX_NAME_LENGTH) return endpoint
  const message =
    endpoint === null
      ? 'must be a path under the baseUrl of its agent, without dot segments and backslashes, encoded ones included'
      : `must have at most ${MAX_NAME_LENGTH} characters, percent-encoded`
  context.addIssue({ code: 'custom', message })
  return z.NEVER
})

/** A cost or a limit, in its unit. */
export const amount = z.number(`must be a number from 0 to ${MAX_AMOUNT}`).min(0).max(MAX_AMOUNT)

// The hash of a job has the same key prefix as its queue's own keys, and BullMQ refuses ids that are numbers.
const QUEUE_KEYS = new Set(Object.keys(new QueueKeys().getKeys('')))
const id = callName
  .refine((value) => !value.includes(':') && `${Number.parseInt(value, 10)}` !== value && !/^\d+$/.test(value), "must not contain ':' or be a plain number")
  .refine((value) => !QUEUE_KEYS.has(value), 'must not be the name of one of the keys of a queue')

/** The fields of an object that holds an amount per unit of cost. */
export const amounts = {
  requests: amount.optional(),
  tokens: amount.optional(),
  inputTokens: amount.optional(),
  outputTokens: amount.optional(),
  usd: amount.optional(),
  points: amount.optional(),
  uncachedInputTokens: amount.optional(),
} satisfies Record<CostUnit, z.ZodOptional>
const cost = z.strictObject(amounts)

const isoDate = z.iso.datetime({ offset: true })

function isDate(value: unknown): boolean {
  return (value instanceof Date || isoDate.safeParse(value).success) && new Date(value as string | Date).getTime() > 0
}

export const callSchema = z.strictObject({
  id: id.optional(),
  agent: callName,
  endpoint: endpointName.optional(),
  model: callName.optional(),
  user: callName.optional(),
  team: callName.optional(),
  org: callName.optional(),
  ip: z
    .string()
    .max(64)
    .refine((value) => isIP(value) !== 0, 'must be an IPv4 or IPv6 address')
    .optional(),
  keys: z.record(callName, callName).optional(),
  cost: cost.optional(),
  priority: z.number(`must be a whole number from -${MAX_PRIORITY} to ${MAX_PRIORITY}`).int().min(-MAX_PRIORITY).max(MAX_PRIORITY).optional(),
  strategy: strategySchema.optional(),
  deadline: z.custom<string | Date>(isDate, 'must be a date after 1970: a Date, or ISO 8601 with its offset, such as 2026-01-31T12:00:00Z').optional(),
  maxWaitMs: waitMs.optional(),
  maxReturns: z.number(`must be a whole number from 0 to ${MAX_RETURNS}`).int().min(0).max(MAX_RETURNS).optional(),
  deduplicationKey: callName.optional(),
  degraded: z.boolean().optional(),
  payload: z.unknown().optional(),
})

export const CALL_FIELDS = Object.keys(callSchema.shape)

/** A payload as JSON. @throws CallInvalid where it cannot be written as JSON */
export function jsonOf(payload: unknown, replacer?: (name: string, value: unknown) => unknown): string {
  try {
    const json = JSON.stringify(payload, replacer)
    if (json !== undefined || payload === undefined) return json ?? 'null'
  } catch (error) {
    const why = error instanceof RangeError ? 'it is nested too deeply' : String((error as Error | null)?.message).split('\n')[0]
    throw new CallInvalid(`payload: must be something that JSON can hold (${why})`)
  }
  throw new CallInvalid(`payload: must be something that JSON can hold (it is a ${typeof payload})`)
}

const PLAIN_NAME = /^[\x20-\x7e]{1,256}$/
const NAMES = new Set(['agent', 'endpoint', 'model', 'user', 'team', 'org'])

const UNITS = new Set<string>(COST_UNITS)

/** Whether a value is an amount of a unit of cost: a number from 0 to MAX_AMOUNT. */
export function isAmount(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value <= MAX_AMOUNT
}

function isPlainCost(cost: object): boolean {
  if (Object.getPrototypeOf(cost) !== Object.prototype) return false
  for (const unit of Object.keys(cost)) {
    const value = (cost as Record<string, unknown>)[unit]
    if (!UNITS.has(unit) || !(value === undefined || isAmount(value))) return false
  }
  return true
}

/**
 * A fast check that accepts only ordinary calls: printable names, a cost, a payload. The schema takes longer than the gate itself, and most calls are
 * ordinary. False means "ask the schema", not "invalid". A test compares the two.
 */
export function plainlyValid(input: unknown): input is Call {
  if (input === null || typeof input !== 'object' || Object.getPrototypeOf(input) !== Object.prototype) return false
  const fields = input as Record<string, unknown>
  if (fields['agent'] === undefined) return false
  for (const field of Object.keys(fields)) {
    const value = fields[field]
    if (NAMES.has(field)) {
      if (value !== undefined && (typeof value !== 'string' || !PLAIN_NAME.test(value) || (field === 'endpoint' && !isPlainEndpoint(value)))) return false
    } else if (field === 'cost' && value !== null && typeof value === 'object') {
      if (!isPlainCost(value)) return false
    } else if (field === 'ip' && typeof value === 'string') {
      if (value.length > 64 || isIP(value) === 0) return false
    } else if (field === 'maxWaitMs' && typeof value === 'number') {
      if (!(value >= 1 && value <= MAX_WAIT_MS)) return false
    } else if (field !== 'payload' && value !== undefined) return false
  }
  return true
}

/** Checks a call, and returns a copy of it, whose payload is the same. @throws CallInvalid naming field, value and bound */
export function validateCall(input: unknown): Call {
  if (plainlyValid(input)) return input.cost === undefined ? { ...input } : { ...input, cost: { ...input.cost } }
  const call = checkInput(callSchema, input, { whole: 'call', unknownField: 'is not a field of a call' }, CallInvalid)
  // zod's records drop this name silently: a rule that counts by it would not cover the call.
  const hidden = valueAt(input, ['keys', '__proto__'])
  if (hidden !== undefined) throw new CallInvalid(faultMessage('keys.__proto__', 'is not a name that a key can have', show(hidden)))
  return call
}

import { Redis } from 'ioredis'
import type { Logger } from 'pino'
import { z } from 'zod'
import { show, valueAt } from '../call.js'
import type { Clock } from '../clock.js'
import type { Estimate } from '../cost/estimate.js'
import type { PriceTable } from '../cost/prices.js'
import { ConfigInvalid } from '../errors.js'
import type { Store } from '../gate/store.js'
import { ON_STORE_ERROR, type OnStoreError, type RuleSpec } from '../rules/rule.js'
import { DEFAULTS } from './defaults.js'

/** What `Tollgate.open` takes; all of it is optional. */
export interface TollgateOptions {
  /** redis:// or rediss:// URL, or an ioredis client with maxRetriesPerRequest: null. Default REDIS_URL, else none: limits are kept in memory. */
  redis?: string | Redis | undefined
  /** One gate: its queues share rules, meters and lines. Default 'default'. */
  namespace?: string | undefined
  /** The BullMQ queue. Default 'calls'. */
  queue?: string | undefined
  /** Where meters are kept instead: one of your own. */
  store?: Store | undefined
  /** A rules file, or rules; they become the namespace's, everywhere. Default: those it has. */
  rules?: string | readonly RuleSpec[] | undefined
  /** What models cost, beside rules that are given as objects; a rules file has its own. */
  prices?: PriceTable | undefined
  /** What a call costs that does not say; default: a tokenizer over its messages, and its max_tokens. */
  estimate?: Estimate | undefined
  /** How often a call is tried whose handler fails; default 1. Waiting is no attempt. */
  attempts?: number | undefined
  /** How long Redis may take to answer at the start; default 10 s. */
  connectTimeoutMs?: number | undefined
  /** What is answered to calls while Redis is away: refused, metered in this process, or let in; a rule may say otherwise. Default 'closed'. */
  onStoreError?: OnStoreError | undefined
  /** How long Redis may take for one command of the gate before it counts as away; default 1 s. */
  storeTimeoutMs?: number | undefined
  /** Calls let in unchecked while Redis is away, at most per minute in this process; default 1000. */
  maxUnchecked?: number | undefined
  /** How long Redis may take to take in, explain or cancel a call; default 5 s. */
  enqueueTimeoutMs?: number | undefined
  logger?: Logger | undefined
  /** For tests and simulations. */
  clock?: Clock | undefined
}

const QUEUE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/

const schema = z.strictObject({
  redis: z.union([z.string(), z.instanceof(Redis)], 'must be a redis:// or rediss:// URL or an ioredis client').optional(),
  namespace: z.string().optional(),
  queue: z.string().regex(QUEUE_NAME, 'must be 1 to 128 letters, digits, . _ or -').default(DEFAULTS.queue),
  store: z.custom<Store>((value) => value !== null && typeof value === 'object', 'must be a store').optional(),
  rules: z.union([z.string().min(1), z.array(z.unknown())]).optional(),
  prices: z.record(z.string(), z.unknown()).optional(),
  estimate: z.custom<Estimate>((value) => typeof value === 'function', 'must be a function').optional(),
  attempts: z.number().int().min(1).max(1000).optional(),
  connectTimeoutMs: z.number().int().min(1).max(3_600_000).default(10_000),
  onStoreError: z.enum(ON_STORE_ERROR).default('closed'),
  storeTimeoutMs: z.number().int().min(1).max(3_600_000).default(DEFAULTS.storeTimeoutMs),
  maxUnchecked: z.number().int().min(0).max(1e9).default(DEFAULTS.maxUnchecked),
  enqueueTimeoutMs: z.number().int().min(1).max(3_600_000).default(DEFAULTS.enqueueTimeoutMs),
  logger: z.custom<Logger>((value) => value !== null && typeof value === 'object', 'must be a pino logger').optional(),
  clock: z.custom<Clock>((value) => value !== null && typeof value === 'object', 'must be a clock').optional(),
})

const workerSchema = z.strictObject({
  concurrency: z.number().int().min(1).max(100_000).optional(),
  timeoutMs: z.number().int().min(0).max(86_400_000).optional(),
  leaseMs: z.number().int().min(1000).max(3_600_000).optional(),
  observer: z.custom((value) => value !== null && typeof value === 'object', 'must be an object').optional(),
  callOf: z.custom((value) => typeof value === 'function', 'must be a function').optional(),
})

function check<T>(parsed: z.ZodSafeParseResult<T>, input: unknown): T {
  if (parsed.success) return Object.freeze(parsed.data) as T
  const issue = parsed.error.issues[0]
  const unknown = issue?.code === 'unrecognized_keys' ? issue.keys[0] : undefined
  const path = unknown === undefined ? (issue?.path ?? []) : [...(issue?.path ?? []), unknown]
  // What was meant to reach Redis may hold a password.
  const got = path[0] === 'redis' ? typeof valueAt(input, path) : show(valueAt(input, path))
  throw new ConfigInvalid(`${path.map(String).join('.') || 'options'}: ${unknown === undefined ? issue?.message : 'is not a known option'} (got ${got})`)
}

/** Options with their defaults, checked and frozen. @throws ConfigInvalid naming option, value and bound */
export function checkOptions(options: TollgateOptions) {
  return check(schema.safeParse(options), options)
}

/** @throws ConfigInvalid naming option, value and bound */
export function checkWorkerOptions(options: unknown): void {
  check(workerSchema.safeParse(options), options)
}

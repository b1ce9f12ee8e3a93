import type { Telemetry } from 'bullmq'
import type { Logger } from 'pino'
import { z } from 'zod'
import type { BelievedUsage } from './admission/usage-reader.js'
import type { RuleAlgorithm } from './limits/algorithms/custom.js'
import { MAX_NAME_LENGTH, MAX_RETURNS } from './model/call.js'
import type { CustomStrategy } from './model/decision.js'
import { DEFAULTS, UNKNOWN_ACTOR } from './model/defaults.js'
import { ConfigInvalid } from './model/errors.js'
import { type Clock, DAY } from './model/time.js'
import type { Exempt } from './policy/override.js'
import { ON_STORE_ERROR, type OnStoreError, type RuleSpec } from './policy/rule.js'
import { type UpstreamOptions, upstreamSchema } from './policy/upstream-block.js'
import type { Estimate } from './pricing/estimate.js'
import type { PriceTable } from './pricing/prices.js'
import type { RedisClient } from './redis/connection.js'
import type { Store } from './store/store.js'
import { STORE_METHODS } from './store/store-guard.js'
import { busSchema } from './upstream/bus.js'
import { endpointName } from './validation/call.js'
import { checkInput, type FaultWording, faultMessage, show } from './validation/faults.js'
import { plainName } from './validation/requests.js'

/** What `Tollgate.open` takes; all of it is optional. */
export interface TollgateOptions {
  /**
   * redis://, rediss:// (TLS), sentinel://, redis-cluster:// or unix:// URL, a client of ioredis 5 or 6 with maxRetriesPerRequest: null, or a Cluster of
   * ioredis. Default REDIS_URL, else none: limits are kept in memory.
   */
  redis?: string | RedisClient | undefined
  /** Queues of one namespace share rules, meters and lines. Default 'default'. */
  namespace?: string | undefined
  /** What the keys in Redis begin with: the `prefix` of BullMQ queues that the app has, 'bull' unless it set another. Default `{tollgate:<namespace>}`. */
  prefix?: string | undefined
  /** The BullMQ queue. Default 'calls'. */
  queue?: string | undefined
  /** A store of your own, instead of Redis. */
  store?: Store | undefined
  /** A rules file, or rules; they become the rules of the namespace, in all processes. Default: the rules it has. */
  rules?: string | readonly RuleSpec[] | undefined
  /** Whether `open` fails where the namespace has no rules, after a wait of 2 s in which lost rules come back. Default false: a warning is logged. */
  requireRules?: boolean | undefined
  /** Prices of models, beside rules that are given as objects; a rules file has its own. */
  prices?: PriceTable | undefined
  /** By agent, the model of calls in degraded mode, beside rules that are given as objects; in a rules file it is a field of the agent. */
  degradeTo?: Readonly<Record<string, string>> | undefined
  /** By agent, the endpoint of calls that name none, beside rules that are given as objects; in a rules file it follows from the agent's `api`. */
  endpoints?: Readonly<Record<string, string>> | undefined
  /** Strategies of your own, by name: a rule or call names one as `custom:<name>`. */
  strategies?: Readonly<Record<string, CustomStrategy>> | undefined
  /** Algorithms of your own, by name: a limit names one as `custom:<name>`. */
  algorithms?: Readonly<Record<string, RuleAlgorithm>> | undefined
  /** Users, teams and others without limits, beside rules that are given as objects; a rules file has its own. */
  exempt?: Exempt | undefined
  /** Estimates the cost of a call that carries none; default: a tokenizer over its messages, and its max_tokens. */
  estimate?: Estimate | undefined
  /** How far usages that agents report are believed: what is above is capped, logged and counted. */
  believedUsage?: BelievedUsage | undefined
  /** Attempts of a call whose handler fails; default 1. Waiting is no attempt. */
  attempts?: number | undefined
  /** The largest payload of an enqueued call, in bytes of JSON; default 1 MB. */
  maxPayloadBytes?: number | undefined
  /** Whether `open` fails where Redis does not answer; default false: it comes up as `onStoreError` says, and goes over to Redis when that is there. */
  requireRedis?: boolean | undefined
  /** How long `open` waits for Redis to answer; default 2 s. */
  connectTimeoutMs?: number | undefined
  /** The actor that the audit names for changes made here without `by`; default 'unknown'. */
  actor?: string | undefined
  /** The longest duration of an override that is granted here, in ms; default 7 days. */
  longestOverrideMs?: number | undefined
  /** How long entries of the audit are kept, in ms; default the value set before, else 90 days. */
  auditRetentionMs?: number | undefined
  /** How limits of agents are learned from their refusals. */
  upstream?: UpstreamOptions | undefined
  /** Carries news of agents between processes: 'redis', 'memory' (this process alone) or the URL of a NATS, nats://…, which needs the package @nats-io/transport-node. Default redis; memory without a Redis. */
  bus?: string | undefined
  /** Calls while Redis is away: refused ('closed'), metered in this process, or let in; a rule may have its own. Default 'local'. */
  onStoreError?: OnStoreError | undefined
  /** How many processes share the limits, for one that comes up without Redis and has not heard of the others; default 1. */
  processes?: number | undefined
  /** How long Redis may take for one script of the gate before it counts as away; default 1 s. */
  storeTimeoutMs?: number | undefined
  /** How many replicas must have an enqueued call, or a charge, before it counts; default 0. What one replica has survives a failover to it. */
  replicas?: number | undefined
  /** The most calls per minute that this process lets in unchecked while Redis is away; default 1000. */
  maxUnchecked?: number | undefined
  /** How long Redis may take to enqueue, explain or cancel a call, or to change the rules; default 5 s. */
  enqueueTimeoutMs?: number | undefined
  /** Of BullMQ, such as that of bullmq-otel: BullMQ's own spans then stand between those of Tollgate. */
  telemetry?: Telemetry | undefined
  /** Whether calls that travel together are decided on by the sums of their costs where all have room; default true. False: one by one, always. */
  decideOnSums?: boolean | undefined
  /** Default: warnings and errors to standard error, or from the level LOG_LEVEL on. */
  logger?: Logger | undefined
  /** Hosts that webhooks of alerts may reach though they are not public, or without https; default none. */
  webhookHosts?: readonly string[] | undefined
  /** For tests and simulations. */
  clock?: Clock | undefined
}

const LONGEST_MS = 3650 * DAY

const isObject = (value: unknown) => value !== null && typeof value === 'object'
const isFunction = (value: unknown) => typeof value === 'function'

/** An object with these methods. */
function objectWith<T>(what: string, ...methods: readonly (keyof T & string)[]) {
  return z.custom<T>(
    (value) => isObject(value) && methods.every((name) => isFunction((value as T)[name])),
    `must be ${what}, which has ${methods.length > 1 ? 'the methods' : 'a method'} ${methods.join(', ')}`,
  )
}

/** The name of a strategy or algorithm of a user's own, behind `custom:`. */
const ownName = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'must be 1 to 64 letters, digits, _ or -')

const schema = z.strictObject({
  redis: z.union([z.string(), z.custom<RedisClient>(isObject)], 'must be a URL or an ioredis client').optional(),
  namespace: z.string().optional(),
  prefix: z
    .string()
    .regex(/^[A-Za-z0-9{][A-Za-z0-9._:{}-]{0,127}$/, 'must be 1 to 128 letters, digits, . _ : { } or -')
    .optional(),
  queue: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/, 'must be 1 to 128 letters, digits, . _ or -')
    .default(DEFAULTS.queue),
  store: objectWith<Store>('a store', ...STORE_METHODS).optional(),
  rules: z.union([z.string().min(1), z.array(z.unknown())]).optional(),
  requireRules: z.boolean().default(false),
  prices: z.record(z.string(), z.unknown()).optional(),
  exempt: z.record(z.string(), z.unknown()).optional(),
  degradeTo: z.record(z.string(), z.string().min(1).max(MAX_NAME_LENGTH)).optional(),
  endpoints: z.record(z.string(), endpointName).optional(),
  strategies: z.record(ownName, z.custom<CustomStrategy>(isFunction, 'must be a function')).default({}),
  algorithms: z.record(ownName, z.custom<RuleAlgorithm>(isObject, 'must be an algorithm: an object with lua, used, waitMs, charge and resetMs')).default({}),
  estimate: z.custom<Estimate>(isFunction, 'must be a function').optional(),
  believedUsage: z.strictObject({ timesEstimate: z.number().min(1).optional(), timesLimit: z.number().min(1).optional() }).optional(),
  attempts: z.number().int().min(1).max(1000).optional(),
  maxPayloadBytes: z.number().int().min(1).max(536_870_912).default(DEFAULTS.maxPayloadBytes),
  requireRedis: z.boolean().default(false),
  connectTimeoutMs: z.number().int().min(1).max(3_600_000).default(DEFAULTS.connectTimeoutMs),
  actor: plainName.default(UNKNOWN_ACTOR),
  longestOverrideMs: z.number().int().min(1000).max(LONGEST_MS).default(DEFAULTS.longestOverrideMs),
  auditRetentionMs: z.number().int().min(1000).max(LONGEST_MS).optional(),
  upstream: upstreamSchema,
  bus: busSchema.optional(),
  onStoreError: z.enum(ON_STORE_ERROR).default('local'),
  processes: z.number().int().min(1).max(100_000).default(1),
  storeTimeoutMs: z.number().int().min(1).max(3_600_000).default(DEFAULTS.storeTimeoutMs),
  replicas: z.number().int().min(0).max(10).default(0),
  maxUnchecked: z.number().int().min(0).max(1e9).default(DEFAULTS.maxUnchecked),
  enqueueTimeoutMs: z.number().int().min(1).max(3_600_000).default(DEFAULTS.enqueueTimeoutMs),
  telemetry: objectWith<Telemetry>('a telemetry of BullMQ').optional(),
  decideOnSums: z.boolean().default(true),
  logger: objectWith<Logger>('a pino logger', 'error', 'warn', 'info', 'debug').optional(),
  webhookHosts: z.array(z.string().min(1)).default([]),
  clock: objectWith<Clock>('a clock', 'forScripts').optional(),
})

const workerSchema = z.strictObject({
  concurrency: z.number().int().min(1).max(100_000).optional(),
  timeoutMs: z.number().int().min(0).max(86_400_000).optional(),
  leaseMs: z.number().int().min(1000).max(3_600_000).optional(),
  maxResultBytes: z.number().int().min(1).max(536_870_912).optional(),
  maxReturns: z.number().int().min(0).max(MAX_RETURNS).optional(),
  observer: z.custom(isObject, 'must be an object').optional(),
  fallback: z.custom(isFunction, 'must be a function').optional(),
  callOf: z.custom(isFunction, 'must be a function').optional(),
  finishInBatches: z.boolean().optional(),
  requireRules: z.boolean().optional(),
})

const WORDING: FaultWording = {
  whole: 'options',
  unknownField: 'is not a known option',
  // The addresses of Redis and of the bus may hold a password.
  show: (value, [option]) => ((option === 'redis' || option === 'bus') && (typeof value === 'string' || isObject(value)) ? typeof value : show(value)),
}

/** Options with their defaults, checked and frozen. @throws ConfigInvalid naming option, value and bound */
export function checkOptions(options: TollgateOptions) {
  return Object.freeze(checkInput(schema, options, WORDING, ConfigInvalid))
}

/** @throws ConfigInvalid naming option, value and bound */
export function checkWorker(handler: unknown, options: unknown): void {
  if (!isFunction(handler)) throw new ConfigInvalid(faultMessage('handler', 'must be a function', show(handler)))
  checkInput(workerSchema, options, WORDING, ConfigInvalid)
}

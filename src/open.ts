import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import { approximateMs, redisClock } from './clock.js'
import { DEFAULTS } from './config/defaults.js'
import { checkOptions, type TollgateOptions } from './config/options.js'
import type { PriceTable } from './cost/prices.js'
import { ConfigInvalid } from './errors.js'
import { Demands } from './gate/demands.js'
import { Gate } from './gate/gate.js'
import type { Store } from './gate/store.js'
import { GuardedStore } from './outage/guarded-store.js'
import { Outage } from './outage/outage.js'
import { Fleet } from './queue/fleet.js'
import { connect, waitUntilReady } from './redis/connection.js'
import { Keys } from './redis/keys.js'
import { checkRules, readRules } from './rules/read.js'
import type { RuleSpec } from './rules/rule.js'
import { MemoryRules, RedisRules, type RuleStore } from './rules/rule-store.js'
import { MemoryStore } from './store/memory-store.js'
import { RedisStore } from './store/redis-store.js'
import { logConnection } from './telemetry/connection-log.js'
import { defaultLogger } from './telemetry/log.js'

/** What a Tollgate is made of. */
export interface TollgateParts {
  readonly namespace: { readonly prefix: string; readonly queue: string }
  readonly store: Store
  readonly demands: Demands
  readonly rules: RuleStore
  readonly log: Logger
  /** How it goes on while Redis is away; undefined where there is none. */
  readonly outage: Outage | undefined
  /** Makes what joins this process to others; undefined where there is no Redis. */
  readonly join: ((rulesChanged: () => void) => Fleet) | undefined
  /** Connections that end with this Tollgate. */
  readonly owned: readonly Redis[]
}

type Options = ReturnType<typeof checkOptions>
type Declared = { readonly rules: readonly RuleSpec[]; readonly prices: Readonly<PriceTable> }

/** The rules that the options declare; undefined: those that the namespace has. */
async function declaredRules({ rules, prices }: Options): Promise<Declared | undefined> {
  if (typeof rules === 'string') {
    if (prices !== undefined) throw new ConfigInvalid('prices: stand in the rules file, where there is one (got both)')
    return readRules(rules)
  }
  if (rules !== undefined) return checkRules(rules as RuleSpec[], prices as PriceTable | undefined)
  if (prices !== undefined) throw new ConfigInvalid('prices: belong to rules; give those, too (got prices alone)')
  return undefined
}

async function rulesInForce(store: RuleStore, declared: Declared | undefined) {
  return declared === undefined ? store.read() : store.declare(declared.rules, declared.prices)
}

/** A process that is alone: its limits are in the store it was given, or in its memory. */
async function openAlone(options: Options, keys: Keys, log: Logger, declared: Declared | undefined): Promise<TollgateParts> {
  const clock = options.clock ?? redisClock
  if (options.store === undefined)
    log.warn('no Redis is configured: limits are kept in the memory of this process alone, and there is no queue; set REDIS_URL to share them')
  const store: Store = options.store ?? new MemoryStore(() => approximateMs(clock))
  const rules = new MemoryRules()
  const demands = new Demands(await rulesInForce(rules, declared), keys, options.estimate)
  return { namespace: { prefix: keys.prefix, queue: options.queue }, store, outage: undefined, demands, rules, log, join: undefined, owned: [] }
}

async function openShared(options: Options, keys: Keys, log: Logger, declared: Declared | undefined): Promise<TollgateParts> {
  const { client, owned } = connect(options.redis)
  logConnection(client, log, 'connection to Redis')
  const subscriber: Redis = client.duplicate()
  logConnection(subscriber, log, 'subscription to Redis')
  let outage: Outage | undefined
  try {
    await waitUntilReady(client, options.connectTimeoutMs)
    await waitUntilReady(subscriber, options.connectTimeoutMs)
    const rules = new RedisRules(client, keys)
    const clock = options.clock ?? redisClock
    const demands = new Demands(await rulesInForce(rules, declared), keys, options.estimate)
    const gate = new Gate(client, demands, clock)
    const { onStoreError, storeTimeoutMs, maxUnchecked } = options
    outage = new Outage({ client, keys, clock, log, onStoreError, timeoutMs: storeTimeoutMs, maxUnchecked })
    await outage.join()
    await subscriber.subscribe(keys.notices, keys.wake)
    return {
      namespace: { prefix: keys.prefix, queue: options.queue },
      store: new GuardedStore((around) => new RedisStore(gate, client, clock, around), outage),
      outage,
      demands,
      rules,
      log,
      join: (rulesChanged) =>
        new Fleet({
          client,
          subscriber,
          keys,
          clock,
          log,
          gate,
          demands,
          queue: options.queue,
          attempts: options.attempts,
          timeoutMs: options.enqueueTimeoutMs,
          rulesChanged,
        }),
      owned: owned ? [client] : [],
    }
  } catch (error) {
    await outage?.close()
    subscriber.disconnect()
    if (owned) client.disconnect()
    throw error
  }
}

/** @throws ConfigInvalid, RulesInvalid, REDIS_UNAVAILABLE */
export async function openParts(given: TollgateOptions): Promise<TollgateParts> {
  const options = checkOptions(given)
  const keys = new Keys(options.namespace ?? DEFAULTS.namespace)
  const declared = await declaredRules(options)
  const log = options.logger ?? defaultLogger()
  if (options.store !== undefined && options.redis !== undefined) throw new ConfigInvalid('store: contradicts redis; give one of them')
  const alone = options.store !== undefined || (options.redis === undefined && process.env['REDIS_URL'] === undefined)
  return alone ? openAlone(options, keys, log, declared) : openShared(options, keys, log, declared)
}

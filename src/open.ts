import { setTimeout as sleep } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import { ApiKeys } from './administration/api-keys.js'
import { type Declaration, declareAlgorithms, declareRules, type PolicyChange, setSettings } from './administration/change.js'
import { boundedPolicyStore, declaringPolicyStore, MemoryPolicyStore, type PolicyStore, RedisPolicyStore } from './administration/policy-store.js'
import { limitOf, resetOf } from './admission/rejection.js'
import { Resolver } from './admission/resolver.js'
import { UsageReader } from './admission/usage-reader.js'
import { MemorySeries } from './history/memory-series.js'
import { Recorder } from './history/recorder.js'
import { RedisSeries } from './history/redis-series.js'
import type { SeriesStore } from './history/series.js'
import { tryAlgorithm } from './limits/try-algorithm.js'
import { DEFAULTS } from './model/defaults.js'
import { ConfigInvalid, rulesMissing, TollgateError } from './model/errors.js'
import { withoutArguments } from './model/secrets.js'
import { approximateMs, type Clock, redisClock } from './model/time.js'
import { checkOptions, type TollgateOptions } from './options.js'
import type { EnterNamespace } from './outage/entry.js'
import { Outage } from './outage/outage.js'
import { outageStore } from './outage/outage-store.js'
import { compilePolicy, type RuleSet } from './policy/compile.js'
import type { Exempt } from './policy/override.js'
import { Twins } from './policy/own-algorithms.js'
import { EMPTY_POLICY, type Policy, retentionOf } from './policy/policy.js'
import type { RuleSpec } from './policy/rule.js'
import { checkRules, readRules } from './policy/rules-file.js'
import type { PriceTable } from './pricing/prices.js'
import { QueueRuntime } from './queue/runtime.js'
import { within } from './redis/bounded-wait.js'
import { connect, connectWithin } from './redis/connection.js'
import { Keys } from './redis/keys.js'
import { checkPermissions } from './redis/permissions.js'
import { waitsForReplicas } from './redis/replicas.js'
import { isStoreError, isUnavailable } from './redis/store-error.js'
import { Subscription } from './redis/subscription.js'
import { LedgerNames } from './store/ledger-names.js'
import { MemoryStore } from './store/memory/memory-store.js'
import { RedisStore } from './store/redis/redis-store.js'
import { ScriptClient } from './store/redis/script-client.js'
import { tryAlgorithms } from './store/redis/try-algorithms.js'
import type { Store } from './store/store.js'
import type { NoteReset } from './store/store-guard.js'
import { CallMetrics } from './telemetry/call-metrics.js'
import { defaultLogger, logConnection, safeLogger } from './telemetry/log.js'
import { type Bus, MemoryBus, RedisBus } from './upstream/bus.js'
import { isNats, loadNats, NatsBus } from './upstream/nats-bus.js'
import type { UpstreamTracker } from './upstream/tracker.js'

/** How often a process that requires rules looks for them. */
const LOOK_FOR_RULES_MS = 100

type Options = ReturnType<typeof checkOptions>

interface CommonParts {
  /** Those of `open`, with their defaults. */
  readonly options: Options
  readonly keys: Keys
  readonly ledgerNames: LedgerNames
  readonly clock: Clock
  readonly log: Logger
  /** What this process has counted. */
  readonly metrics: CallMetrics
  /** The algorithms that this process was given. */
  readonly twins: Twins
}

export interface TollgateParts extends CommonParts {
  readonly store: Store
  readonly resolver: Resolver
  readonly usage: UsageReader
  readonly rules: PolicyStore
  /** Counts what this process does, for the history. */
  readonly recorder: Recorder
  readonly series: SeriesStore
  /** Writes resets to the audit; undefined where the store does so itself. */
  readonly noteReset?: NoteReset
  /** Carries news of agents to other processes. */
  readonly bus: Bus
  /** Decides while Redis is away; undefined in a process without a Redis. */
  readonly outage?: Outage
  /** Issued API keys; undefined in a process without a Redis. */
  readonly apiKeys?: ApiKeys
  /** Opens the queue; undefined in a process without a Redis. */
  readonly openQueue?: (rulesChanged: () => void, tracker: UpstreamTracker) => QueueRuntime
  /** The connection of the front door; undefined in a process without a Redis. */
  readonly redis?: Redis
  /** Closes the connections that this Tollgate opened, and leaves those that others use, too. */
  readonly leave: () => void
}

/** The rules that the options declare; undefined where they declare none and those of the namespace stay in force. */
async function declaredRules({ rules, prices, exempt, degradeTo, endpoints }: Options): Promise<Declaration | undefined> {
  for (const [option, value] of Object.entries({ prices, exempt, degradeTo, endpoints })) {
    if (value === undefined) continue
    if (typeof rules === 'string') throw new ConfigInvalid(`${option}: stand in the rules file, where there is one (got both)`)
    if (rules === undefined) throw new ConfigInvalid(`${option}: belong to rules; give those, too (got ${option} alone)`)
  }
  if (typeof rules === 'string') return readRules(rules)
  if (rules === undefined) return undefined
  return checkRules(rules as RuleSpec[], prices as PriceTable | undefined, exempt as Exempt | undefined, degradeTo, endpoints)
}

/** The changes by which the options become the policy of the namespace. */
function declarations(declared: Declaration | undefined, { auditRetentionMs, actor, algorithms }: Options): PolicyChange[] {
  const changes: PolicyChange[] = []
  const texts = Object.entries(algorithms).map(([name, { lua }]) => [name, lua])
  // Before the rules, which may name them.
  if (texts.length > 0) changes.push(declareAlgorithms(Object.fromEntries(texts), actor))
  if (declared !== undefined) changes.push(declareRules(declared, actor))
  if (auditRetentionMs !== undefined) changes.push(setSettings({ auditRetentionMs }, actor))
  return changes
}

/** The policy that the options declare, where nothing else is known of that of the namespace. */
function declaredPolicy(changes: readonly PolicyChange[], nowMs: number, twins: Twins): RuleSet {
  return compilePolicy(
    changes.reduce<Policy>((policy, change) => change(policy, nowMs).policy, EMPTY_POLICY),
    nowMs,
    twins,
  )
}

/**
 * A namespace without rules lets all calls pass: that is logged, or refused where rules are required. To standard error it is logged when the first call
 * is resolved, since limiters by key and the command line need no rules. @throws RULES_MISSING
 */
async function checkThatRulesExist(store: PolicyStore, resolver: Resolver, { options, log }: CommonParts): Promise<void> {
  const untilMs = performance.now() + (options.requireRules ? DEFAULTS.rulesRestoreMs : 0)
  while (resolver.rules.specs.length === 0 && performance.now() < untilMs) {
    await sleep(LOOK_FOR_RULES_MS)
    resolver.rules = await store.read()
  }
  if (resolver.rules.specs.length === 0 && options.requireRules) throw rulesMissing()
  warnWithoutRules(resolver, options, log)
}

function warnWithoutRules(resolver: Resolver, { logger }: Options, log: Logger): void {
  if (resolver.rules.specs.length > 0) return
  const warn = () => log.warn('this namespace has no rules: its calls pass unchecked until some are declared')
  if (logger === undefined) resolver.onFirstWithoutRules = warn
  else warn()
}

/** What Redis or the user of its URL says no to for good: waiting does not help. */
const REFUSED_FOR_GOOD = /\b(NOAUTH|WRONGPASS|NOPERM|MOVED)\b/

/**
 * Whether a process comes up though it could not reach its Redis. Not one that requires rules and has none of its own: it cannot know whether the
 * namespace has any.
 */
function comesUpWithout(error: unknown, client: Redis, { requireRedis, requireRules }: Options, declared: Declaration | undefined): error is Error {
  if (requireRedis || (requireRules && (declared?.rules.length ?? 0) === 0) || client.status === 'end') return false
  return isUnavailable(error) && !REFUSED_FOR_GOOD.test((error as Error).message)
}

function busOf({ options, keys, log }: CommonParts, ofRedis?: () => Bus): Bus {
  const bus = options.bus ?? (ofRedis === undefined ? 'memory' : 'redis')
  if (bus === 'memory') return new MemoryBus(keys.news)
  if (bus !== 'redis')
    return new NatsBus(
      bus,
      `tollgate.${options.namespace ?? DEFAULTS.namespace}.news${options.prefix === undefined ? '' : `.${Buffer.from(options.prefix).toString('hex')}`}`,
      log,
    )
  if (ofRedis === undefined) throw new ConfigInvalid('bus: redis needs a Redis; give the option redis, or another bus (got redis)')
  return ofRedis()
}

/** A process without a Redis: its limits are in the given store, or in its memory. */
async function openAlone(common: CommonParts, declared: Declaration | undefined): Promise<TollgateParts> {
  const { options, clock, log, twins } = common
  if (options.store === undefined)
    log.warn('no Redis is configured: limits are kept in the memory of this process alone, and there is no queue; set REDIS_URL to share them')
  const rules = new MemoryPolicyStore(clock, twins)
  const changes = declarations(declared, options)
  for (const change of changes) await rules.change(change)
  const resolver = new Resolver(await rules.read(), common.keys, options.estimate, options.upstream)
  if (options.requireRules && resolver.rules.specs.length === 0) throw rulesMissing()
  const series = new MemorySeries(clock)
  return {
    ...common,
    series,
    recorder: new Recorder({ series, log, nowMs: () => approximateMs(clock), away: () => false }),
    store: options.store ?? new MemoryStore(() => approximateMs(clock)),
    rules,
    resolver,
    usage: new UsageReader(resolver, log, options.believedUsage),
    noteReset: (request, usage, by = options.actor) => {
      const before = Array.isArray(usage) ? Object.fromEntries(usage.map(({ rule, limit, used }) => [limitOf(rule, limit), used])) : usage
      const { limiters, ...reset } = resetOf(request)
      rules.noteReset({ by, ...reset, before, after: null }, limiters)
    },
    bus: busOf(common),
    leave: () => {},
  }
}

/** A process that shares limits, lines and policy with the others of its namespace, by Redis. */
async function openShared(common: CommonParts, declared: Declaration | undefined): Promise<TollgateParts> {
  const { options, keys, ledgerNames, clock, log, twins } = common
  const { client, owned } = connect(options.redis, keys.prefix)
  waitsForReplicas(client, options.replicas)
  const subscription = new Subscription(client, !owned)
  const subscriber = subscription.connection
  subscription.onLeave(logConnection(subscriber, log, 'subscription to Redis'))
  const endLog = logConnection(client, log, 'connection to Redis')
  const leave = () => {
    subscription.close()
    if (owned) client.disconnect()
    else endLog()
  }
  const changes = declarations(declared, options)
  const resolver = new Resolver(declaredPolicy(changes, approximateMs(clock), twins), keys, options.estimate, options.upstream)
  const scriptClient = new ScriptClient(client, resolver, clock)
  const { onStoreError, storeTimeoutMs: timeoutMs, maxUnchecked, processes, connectTimeoutMs, decideOnSums } = options
  const outage = new Outage({ client, scriptClient, clock, log, ledgerNames, onStoreError, timeoutMs, maxUnchecked, processes })
  try {
    const restored = () => log.warn('Redis had lost the rules of this namespace, or had older ones; this process has declared those that it knew')
    const policies = declaringPolicyStore(new RedisPolicyStore(client, keys, clock, twins, restored), changes)
    const rules = boundedPolicyStore(policies, client, options.enqueueTimeoutMs)
    const enter: EnterNamespace = async (readRules) => {
      await Promise.all([connectWithin(client, connectTimeoutMs), connectWithin(subscriber, connectTimeoutMs)])
      await within(connectTimeoutMs, checkPermissions(client, keys.probe, options.replicas))
      await within(connectTimeoutMs, tryAlgorithms(client, keys.probe, options.algorithms))
      await within(connectTimeoutMs, subscription.select())
      await readRules()
      await within(connectTimeoutMs, subscription.subscribe(keys.notices, keys.wake, keys.news))
    }
    try {
      await enter(async () => {
        resolver.rules = await rules.read()
        await checkThatRulesExist(rules, resolver, common)
      })
      await outage.start()
    } catch (error) {
      if (!comesUpWithout(error, client, options, declared)) throw error
      outage.startAway(error, declared !== undefined, async (readRules) => {
        await enter(readRules)
        warnWithoutRules(resolver, options, log)
      })
    }
    const usage = new UsageReader(resolver, log, options.believedUsage)
    const store = outageStore(outage, (around) => new RedisStore(scriptClient, client, clock, { around, actor: options.actor, ledgerNames, decideOnSums }))
    const series = new RedisSeries(client, keys, clock)
    const away = () => client.status !== 'ready' || outage.breaker.away
    const recorder = new Recorder({ series, log, nowMs: () => approximateMs(clock), away })
    outage.local.onUnchecked = (request) => recorder.unchecked(request)
    return {
      ...common,
      redis: client,
      series,
      recorder,
      store,
      outage,
      resolver,
      usage,
      rules,
      bus: busOf(common, () => new RedisBus(client, subscription, keys.news, log)),
      apiKeys: new ApiKeys({ redis: client, keys, clock, actor: options.actor, retentionMs: () => retentionOf(resolver.rules.policy) }),
      openQueue: (rulesChanged, tracker) =>
        new QueueRuntime({
          ...common,
          client,
          subscription,
          scriptClient,
          resolver,
          tracker,
          usage,
          outage,
          recorder,
          store,
          rulesChanged,
        }),
      leave,
    }
  } catch (error) {
    await outage.close()
    leave()
    if (error instanceof Error && /^MOVED\b/.test(error.message))
      throw new ConfigInvalid(
        'redis: the client that is given is connected to one server of a Redis Cluster; give an ioredis Cluster, or redis-cluster://host:port',
      )
    if (error instanceof TollgateError || !(isStoreError(error) || (error instanceof Error && error.name === 'ReplyError'))) throw error
    throw new TollgateError('REDIS_UNAVAILABLE', `Redis refuses (${withoutArguments(error).message})`, { cause: error })
  }
}

/** @throws ConfigInvalid, RulesInvalid, REDIS_UNAVAILABLE */
export async function openParts(given: TollgateOptions): Promise<TollgateParts> {
  const options = checkOptions(given)
  const keys = new Keys(options.namespace ?? DEFAULTS.namespace, options.prefix)
  // Before any rule is declared: this fails where the NATS client is not installed.
  if (isNats(options.bus)) await loadNats()
  for (const [name, algorithm] of Object.entries(options.algorithms)) tryAlgorithm(name, algorithm)
  const declared = await declaredRules(options)
  const log = safeLogger(options.logger ?? defaultLogger())
  if (options.store !== undefined && options.redis !== undefined) throw new ConfigInvalid('store: contradicts redis; give one of them')
  const alone = options.store !== undefined || (options.redis === undefined && process.env['REDIS_URL'] === undefined)
  const twins = new Twins(options.algorithms, (name, err) => log.error({ err }, `the algorithm ${name} failed: its limits have no room for a moment`))
  const common: CommonParts = { options, keys, ledgerNames: new LedgerNames(), clock: options.clock ?? redisClock, log, metrics: new CallMetrics(), twins }
  return alone ? openAlone(common, declared) : openShared(common, declared)
}

import type { Redis } from 'ioredis'
import { TIME_ACTOR } from '../model/defaults.js'
import { approximateMs, type Clock } from '../model/time.js'
import { compilePolicy, type RuleSet } from '../policy/compile.js'
import { endOf } from '../policy/override.js'
import { EMPTY_POLICY, POLICY_FIELDS, POLICY_PARTS, type Policy, retentionOf, versionOf } from '../policy/policy.js'
import { checkRules } from '../policy/rules-file.js'
import { Patience, unanswered } from '../redis/bounded-wait.js'
import type { Keys } from '../redis/keys.js'
import { scripts } from '../store/redis/scripts.js'
import type { AuditNote } from './audit.js'
import { type AuditLog, MemoryLog, RedisLog } from './audit-log.js'
import type { ChangedPolicy, PolicyChange } from './change.js'

/** The policy in a Redis that may be away: then whoever asks is told so in time, and nothing waits for it to come back. */
export class BoundedPolicyStore implements PolicyStore {
  readonly audit: AuditLog
  private readonly rules: PolicyStore
  private readonly redis: Redis
  private readonly timeoutMs: number

  /** @param timeoutMs how long Redis may take */
  constructor(rules: PolicyStore, redis: Redis, timeoutMs: number) {
    this.rules = rules
    this.redis = redis
    this.timeoutMs = timeoutMs
    this.audit = { read: (query) => this.ask('the look at the audit', () => rules.audit.read(query)) }
  }

  /** @throws StoreUnavailable that says whether it may have been changed after all, and what the change throws */
  change(change: PolicyChange): Promise<RuleSet> {
    return this.ask('the change', () => this.rules.change(change))
  }

  /** @throws StoreUnavailable */
  read(known?: RuleSet): Promise<RuleSet> {
    return this.ask('the look at the rules', () => this.rules.read(known))
  }

  /** @throws StoreUnavailable */
  nowMs(): Promise<number> {
    return this.ask('the look at the clock', () => this.rules.nowMs())
  }

  private ask<T>(what: string, send: () => Promise<T>): Promise<T> {
    return new Patience(this.redis, this.timeoutMs).answer(send, (why) => unanswered(what, why))
  }
}

/** Where the policy of a namespace is kept, and what was changed in it. */
export interface PolicyStore {
  /** What was changed, by whom and when. */
  readonly audit: AuditLog
  /** Changes the policy, and answers what is in force after it. @throws what the change throws; nothing is changed then */
  change(change: PolicyChange): Promise<RuleSet>
  /** What is in force now; `known` itself where that is still the same. */
  read(known?: RuleSet): Promise<RuleSet>
  /** The clock by which overrides end, in ms since the epoch. */
  nowMs(): Promise<number>
}

/** Works out a change; overrides that have ended go along with it. Null where nothing changes. */
function workOut(policy: Policy, change: PolicyChange, nowMs: number): ChangedPolicy | null {
  const ended = policy.overrides.filter((override) => endOf(override) <= nowMs)
  const base = ended.length === 0 ? policy : { ...policy, overrides: policy.overrides.filter((override) => !ended.includes(override)) }
  const changed = change(base, nowMs)
  const noted: AuditNote[] = ended.map((override) => ({ by: TIME_ACTOR, what: 'override.ended', subject: override.id, before: override, after: null }))
  if (versionOf(changed.policy) !== versionOf(base)) noted.push(...changed.noted)
  return noted.length === 0 ? null : { policy: changed.policy, noted }
}

/** The policy of a process that is alone. */
export class MemoryPolicyStore implements PolicyStore {
  readonly audit = new MemoryLog()
  private readonly clock: Clock
  private policy = EMPTY_POLICY

  constructor(clock: Clock) {
    this.clock = clock
  }

  async change(change: PolicyChange): Promise<RuleSet> {
    const nowMs = approximateMs(this.clock)
    const changed = workOut(this.policy, change, nowMs)
    const ruleSet = compilePolicy(changed?.policy ?? this.policy, nowMs)
    if (changed !== null) {
      this.policy = changed.policy
      this.audit.append(changed.noted, nowMs, retentionOf(this.policy))
    }
    return ruleSet
  }

  async read(known?: RuleSet): Promise<RuleSet> {
    const nowMs = approximateMs(this.clock)
    return known !== undefined && known.version === versionOf(this.policy) && !hasEnded(known, nowMs) ? known : compilePolicy(this.policy, nowMs)
  }

  /** Notes what was changed elsewhere in this process. */
  note(noted: AuditNote): void {
    this.audit.append([noted], approximateMs(this.clock), retentionOf(this.policy))
  }

  async nowMs(): Promise<number> {
    return approximateMs(this.clock)
  }
}

function hasEnded({ nextEndMs }: RuleSet, nowMs: number): boolean {
  return nextEndMs !== null && nextEndMs <= nowMs
}

/** A policy as it stands in Redis. */
interface StoredPolicy {
  /** '' where there is none. */
  readonly version: string
  /** As it was written: rules may be those of another version of Tollgate, which this one takes for wrong. */
  readonly policy: Policy
  readonly nowMs: number
}

/** The policy of a namespace in Redis. */
export class RedisPolicyStore implements PolicyStore {
  readonly audit: RedisLog
  private readonly redis: Redis
  private readonly keys: Keys
  private readonly clock: Clock

  constructor(redis: Redis, keys: Keys, clock: Clock) {
    this.redis = redis
    this.keys = keys
    this.clock = clock
    this.audit = new RedisLog(redis, keys.audit)
  }

  /** What changes nothing is not written. Whoever finds that others were faster works on theirs. */
  async change(change: PolicyChange): Promise<RuleSet> {
    for (;;) {
      const { version, policy, nowMs } = await this.standing()
      const changed = workOut(policy, change, nowMs)
      if (changed === null) return this.compiled({ version, policy, nowMs })
      const next: StoredPolicy = { version: versionOf(changed.policy), policy: changed.policy, nowMs }
      if (next.version === version) return this.compiled(next)
      const ruleSet = this.compiled(next)
      const parts = POLICY_PARTS.flatMap((part) => [POLICY_FIELDS[part], JSON.stringify(next.policy[part])])
      const entries = changed.noted.flatMap(({ by, what, subject, before, after }) => [by, what, subject, JSON.stringify(before), JSON.stringify(after)])
      const args = [version, next.version, JSON.stringify({ rules: next.version }), retentionOf(next.policy), POLICY_PARTS.length, ...parts, ...entries]
      const keys = [this.keys.rules, this.keys.notices, this.keys.audit]
      if ((await scripts.writePolicy.run(this.redis, keys, [this.clock.forScripts(), ...args])) === 1) return ruleSet
    }
  }

  async read(known?: RuleSet): Promise<RuleSet> {
    if (known !== undefined) {
      const [version, nowMs] = await Promise.all([this.redis.hget(this.keys.rules, 'version'), this.nowMs()])
      if ((version ?? known.version) === known.version && !hasEnded(known, nowMs)) return known
    }
    return this.compiled(await this.standing())
  }

  private compiled({ version, policy, nowMs }: StoredPolicy): RuleSet {
    const { rules, prices, exempt } = checkRules(policy.declared, policy.prices, policy.exempt)
    const checked = { ...policy, declared: rules, prices, exempt, added: checkRules(policy.added).rules }
    const ruleSet = compilePolicy(checked, nowMs)
    // That of whoever wrote it: else another version of Tollgate would never find it unchanged.
    return version === '' ? ruleSet : { ...ruleSet, version }
  }

  /** Asked for in one turn, and so answered in one round trip. */
  private async standing(): Promise<StoredPolicy> {
    const [values, nowMs] = await Promise.all([this.redis.hmget(this.keys.rules, 'version', ...POLICY_PARTS.map((part) => POLICY_FIELDS[part])), this.nowMs()])
    const [version, ...parts] = values
    const part = <Part>(index: number, empty: Part): Part => (typeof parts[index] === 'string' ? (JSON.parse(parts[index]) as Part) : empty)
    const entries = POLICY_PARTS.map((name, index) => [name, part<unknown>(index, EMPTY_POLICY[name])] as const)
    return { version: version ?? '', policy: Object.fromEntries(entries) as unknown as Policy, nowMs }
  }

  async nowMs(): Promise<number> {
    const given = this.clock.forScripts()
    if (given !== '') return Number(given)
    const [seconds, micros] = await this.redis.time()
    return Number(seconds) * 1000 + Number(micros) / 1000
  }
}

import type { Redis } from 'ioredis'
import { DEFAULTS, TIME_ACTOR } from '../model/defaults.js'
import { approximateMs, type Clock, DAY } from '../model/time.js'
import { compilePolicy, type RuleSet } from '../policy/compile.js'
import { endOf } from '../policy/override.js'
import type { Twins } from '../policy/own-algorithms.js'
import { EMPTY_POLICY, POLICY_PARTS, type Policy, policyField, retentionOf, versionOf } from '../policy/policy.js'
import { checkRules } from '../policy/rules-file.js'
import { answeredWithin } from '../redis/bounded-wait.js'
import type { Keys } from '../redis/keys.js'
import { storeNowMs } from '../redis/replies.js'
import { scripts } from '../store/redis/scripts.js'
import { type AuditLog, type AuditNote, MemoryLog, redisLog } from './audit.js'
import type { ChangedPolicy, PolicyChange } from './change.js'
import { compareLineage, type Lineage, mergePolicies, nextLineage, restoredNote } from './lineage.js'

/** Stores the policy of a namespace and the audit of its changes. */
export interface PolicyStore {
  readonly audit: AuditLog
  /** Changes the policy, and returns the version in force after it. @throws what the change throws; nothing is changed then */
  change(change: PolicyChange): Promise<RuleSet>
  /** The version in force; `known` itself where that is still the same. */
  read(known?: RuleSet): Promise<RuleSet>
  /** Adds to the numbers of uses of overrides, and returns them; those of overrides that have ended are forgotten. */
  addUses(counts: ReadonlyMap<string, number>): Promise<Readonly<Record<string, number>>>
  /** The clock by which overrides end, in ms since the epoch. */
  nowMs(): Promise<number>
}

/**
 * The policy in a Redis that may be away: each request fails when `timeoutMs` is over, instead of waiting until Redis is back.
 * Its methods throw StoreUnavailable; that of a change says whether it may have happened after all.
 */
export function boundedPolicyStore(policies: PolicyStore, redis: Redis, timeoutMs: number): PolicyStore {
  const bounded = <T>(what: string, send: () => Promise<T>) => answeredWithin(redis, timeoutMs, what, send)
  return {
    audit: { read: (query) => bounded('the look at the audit', () => policies.audit.read(query)) },
    change: (change) => bounded('the change', () => policies.change(change)),
    read: (known) => bounded('the look at the rules', () => policies.read(known)),
    addUses: (counts) => bounded('the count of uses', () => policies.addUses(counts)),
    nowMs: () => bounded('the look at the clock', () => policies.nowMs()),
  }
}

/** A policy that is changed before anything else is read of it or changed: what a process declares, as soon as Redis is there. */
export function declaringPolicyStore(policies: PolicyStore, first: readonly PolicyChange[]): PolicyStore {
  let declared: Promise<void> | undefined
  const declare = async () => {
    for (const change of first) await policies.change(change)
  }
  const afterThat = <T>(work: () => Promise<T>): Promise<T> => {
    // Where it failed it is tried again.
    declared ??= declare().catch((error: unknown) => {
      declared = undefined
      throw error
    })
    return declared.then(work)
  }
  return {
    audit: policies.audit,
    change: (change) => afterThat(() => policies.change(change)),
    read: (known) => afterThat(() => policies.read(known)),
    addUses: (counts) => afterThat(() => policies.addUses(counts)),
    nowMs: () => policies.nowMs(),
  }
}

/** Applies a change, and removes overrides that have ended. Null where neither changes anything. */
function applyChange(policy: Policy, change: PolicyChange, nowMs: number): ChangedPolicy | null {
  const ended = policy.overrides.filter((override) => endOf(override) <= nowMs)
  const base = ended.length === 0 ? policy : { ...policy, overrides: policy.overrides.filter((override) => !ended.includes(override)) }
  const changed = change(base, nowMs)
  const noted: AuditNote[] = ended.map((override) => ({ by: TIME_ACTOR, what: 'override.ended', subject: override.id, before: override, after: null }))
  if (versionOf(changed.policy) !== versionOf(base)) noted.push(...changed.noted)
  return noted.length === 0 ? null : { policy: changed.policy, noted }
}

export class MemoryPolicyStore implements PolicyStore {
  readonly audit = new MemoryLog()
  private policy = EMPTY_POLICY
  private uses: Readonly<Record<string, number>> = {}

  constructor(
    private readonly clock: Clock,
    private readonly twins: Twins,
  ) {}

  async change(change: PolicyChange): Promise<RuleSet> {
    const nowMs = approximateMs(this.clock)
    const changed = applyChange(this.policy, change, nowMs)
    const ruleSet = compilePolicy(changed?.policy ?? this.policy, nowMs, this.twins)
    if (changed !== null) {
      this.policy = changed.policy
      this.audit.append(changed.noted, nowMs, retentionOf(this.policy))
    }
    return ruleSet
  }

  async read(known?: RuleSet): Promise<RuleSet> {
    const nowMs = approximateMs(this.clock)
    return known !== undefined && known.version === versionOf(this.policy) && !hasEnded(known, nowMs) ? known : compilePolicy(this.policy, nowMs, this.twins)
  }

  async addUses(counts: ReadonlyMap<string, number>): Promise<Readonly<Record<string, number>>> {
    const sums = this.policy.overrides.map(({ id }) => [id, (this.uses[id] ?? 0) + (counts.get(id) ?? 0)])
    this.uses = Object.fromEntries(sums)
    return this.uses
  }

  /** @param limiters those that were reset, which are counted; '' where anything else was */
  noteReset(noted: AuditNote, limiters: string): void {
    const [nowMs, retentionMs] = [approximateMs(this.clock), retentionOf(this.policy)]
    if (limiters === '') this.audit.append([noted], nowMs, retentionMs)
    else this.audit.countReset(noted, limiters, nowMs, retentionMs)
  }

  async nowMs(): Promise<number> {
    return approximateMs(this.clock)
  }
}

function hasEnded({ nextEndMs }: RuleSet, nowMs: number): boolean {
  return nextEndMs !== null && nextEndMs <= nowMs
}

/** A policy as read from Redis, not checked: another version of Tollgate, with other rules about rules, may have written it. The version is '' where none is stored. */
type StoredPolicy = Pick<RuleSet, 'version' | 'policy'> & Lineage & { readonly nowMs: number }

/** What a change begins with, and what the audit is to say of that. */
interface Base extends ChangedPolicy {
  /** Of what is written, where the change adds nothing. */
  readonly lineage: Lineage
  readonly parents: readonly Lineage[]
}

/**
 * The policy in Redis, which may come back empty or with an older state. This process keeps the last policy that it knew, and compares each that it reads
 * with it: one that is not the known one, or made from it, is not taken over. The known policy is written again, with a note in the audit.
 *
 * Of several processes that notice it at once, one writes. One that knows only an older revision writes that, and a process that knows a newer one writes
 * again: never the other way round, since a revision names those that it came from. If the process dies in between, the next one does it; if no process
 * knows the policy, it is lost.
 */
export class RedisPolicyStore implements PolicyStore {
  readonly audit: AuditLog
  private known: StoredPolicy | undefined

  constructor(
    private readonly redis: Redis,
    private readonly keys: Keys,
    private readonly clock: Clock,
    private readonly twins: Twins,
    /** Is called when a lost policy was declared anew. */
    private readonly restored: () => void = () => {},
  ) {
    this.audit = redisLog(redis, keys.audit)
  }

  /** Compare-and-set on the version, repeated until no other process has written in between. An equal policy is not written. */
  async change(change: PolicyChange): Promise<RuleSet> {
    for (;;) {
      const stored = await this.stored()
      const { version, revision, nowMs } = stored
      const base = this.baseOf(stored)
      const changed = applyChange(base.policy, change, nowMs)
      const noted = [...base.noted, ...(changed?.noted ?? [])]
      if (noted.length === 0) return this.use(stored)
      const policy = changed?.policy ?? base.policy
      const lineage = changed === null ? base.lineage : nextLineage(...base.parents)
      const next: StoredPolicy = { version: versionOf(policy), policy, ...lineage, nowMs }
      const ruleSet = this.compiled(next)
      if (base.noted.length === 0 && next.version === version) return this.use({ ...stored, policy })
      const fields = POLICY_PARTS.flatMap((part) => [policyField(part), JSON.stringify(policy[part])])
      const parts = ['version', next.version, 'revision', next.revision, 'past', JSON.stringify(next.past), ...fields]
      const entries = noted.flatMap(({ by, what, subject, before, after }) => [by, what, subject, JSON.stringify(before), JSON.stringify(after)])
      const args = [version, revision, JSON.stringify({ rules: next.version }), retentionOf(policy), parts.length / 2, ...parts, ...entries]
      const keys = [this.keys.rules, this.keys.notices, this.keys.audit]
      if ((await scripts.writePolicy.run(this.redis, keys, [this.clock.forScripts(), ...args])) === 0) continue
      this.known = next
      if (base.noted.length > 0) this.restored()
      return ruleSet
    }
  }

  async read(known?: RuleSet): Promise<RuleSet> {
    if (known !== undefined) {
      const [[version, revision], nowMs] = await Promise.all([this.redis.hmget(this.keys.rules, 'version', 'revision'), this.nowMs()])
      const isSame = (version ?? '') === this.known?.version && (revision ?? '') === this.known.revision
      if (isSame && !hasEnded(known, nowMs)) return known
    }
    const stored = await this.stored()
    return this.baseOf(stored).noted.length === 0 ? this.use(stored) : this.change((policy) => ({ policy, noted: [] }))
  }

  /** A count that comes after the end of its override is forgotten when many are kept, or when the hash ends: a day after the last count. */
  async addUses(counts: ReadonlyMap<string, number>): Promise<Readonly<Record<string, number>>> {
    const key = this.keys.overrideUses
    const { policy = EMPTY_POLICY, nowMs = 0 } = this.known ?? {}
    const keptMs = DAY + Math.max(0, ...policy.overrides.map((override) => endOf(override) - nowMs))
    const batch = this.redis.multi()
    for (const [id, count] of counts) batch.hincrby(key, id, count)
    if (counts.size > 0) batch.pexpire(key, Math.ceil(keptMs))
    const replies = (await batch.hgetall(key).exec()) ?? []
    for (const [failure] of replies) if (failure !== null) throw failure
    const sums = (replies.at(-1)?.[1] ?? {}) as Record<string, string>
    const known = new Set(policy.overrides.map(({ id }) => id))
    const ended = Object.keys(sums).filter((id) => !known.has(id))
    if (ended.length > DEFAULTS.exceptionsAtMost) await this.redis.hdel(key, ...ended)
    return Object.fromEntries(Object.entries(sums).map(([id, sum]) => [id, Number(sum)]))
  }

  private use(stored: StoredPolicy): RuleSet {
    const ruleSet = this.compiled(stored)
    this.known = stored
    return ruleSet
  }

  /** The policy that stands: the stored one, or where that was lost the one that this process knows. */
  private baseOf(stored: StoredPolicy): Base {
    const { known } = this
    const is = known === undefined ? 'goes on' : compareLineage(stored, known)
    if (known === undefined || is === 'goes on') return { policy: stored.policy, noted: [], lineage: stored, parents: [stored] }
    const policy = is === 'lost' ? known.policy : mergePolicies(stored, known)
    const parents = [known, stored]
    return { policy, noted: [restoredNote(stored.policy, policy)], lineage: is === 'lost' ? known : nextLineage(...parents), parents }
  }

  private compiled({ version, policy, nowMs }: StoredPolicy): RuleSet {
    const { rules, prices, exempt } = checkRules(policy.declared, policy.prices, policy.exempt)
    const checked = { ...policy, declared: rules, prices, exempt, added: checkRules(policy.added).rules }
    const ruleSet = compilePolicy(checked, nowMs, this.twins)
    // The stored version, not the hash of the checked policy: where checks add defaults the two differ, and the policy would never count as unchanged.
    return version === '' ? ruleSet : { ...ruleSet, version }
  }

  /** Both commands are sent in one turn of the event loop, so they take one round trip. */
  private async stored(): Promise<StoredPolicy> {
    const fields = this.redis.hmget(this.keys.rules, 'version', 'revision', 'past', ...POLICY_PARTS.map(policyField))
    const [[version, revision, past, ...parts], nowMs] = await Promise.all([fields, this.nowMs()])
    const stored: Partial<Policy> = Object.fromEntries(
      POLICY_PARTS.flatMap((part, index) => {
        const json = parts[index]
        return typeof json === 'string' ? [[part, JSON.parse(json)]] : []
      }),
    )
    return { version: version ?? '', revision: revision ?? '', past: JSON.parse(past ?? '[]'), policy: { ...EMPTY_POLICY, ...stored }, nowMs }
  }

  nowMs(): Promise<number> {
    return storeNowMs(this.redis, this.clock)
  }
}

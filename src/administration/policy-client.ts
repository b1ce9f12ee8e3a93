import type { Logger } from 'pino'
import type { Resolver } from '../admission/resolver.js'
import { DEFAULTS } from '../model/defaults.js'
import { StoreUnavailable, TollgateError } from '../model/errors.js'
import { type Clock, LONGEST_TIMER_MS } from '../model/time.js'
import { compilePolicy, type RuleSet } from '../policy/compile.js'
import { retentionOf } from '../policy/policy.js'
import type { AuditEntry, CheckedQuery } from './audit.js'
import type { PolicyChange } from './change.js'
import type { PolicyStore } from './policy-store.js'

/** A change of nothing. The policy store then still removes overrides that have ended, and notes their end. */
const NO_CHANGE: PolicyChange = (policy) => ({ policy, noted: [] })

interface PolicyClientParts {
  readonly resolver: Resolver
  readonly rules: PolicyStore
  readonly clock: Clock
  readonly log: Logger
  /** The actor of changes that name none. */
  readonly actor: string
  /** Called after another version came into force: waiting calls may have room under it. */
  readonly changed: (before: RuleSet) => void
}

/**
 * Keeps the policy of this process up to date: it writes changes, reads the policy again after
 * other processes changed it, and compiles it again when an override ends.
 *
 * Overrides end by the store's clock. This class only measures how much time is left until then, so the clock of this machine may be wrong by any
 * amount. At the end of an override every process that is up compiles the policy without it, whether Redis is there or not, and tries to note the end
 * in the audit; the first one writes it. If a process dies before that, another one does it; if none is left, the next change of the policy or the
 * next query of the audit does.
 */
export class PolicyClient {
  private reading: Promise<void> = Promise.resolve()
  private timer: NodeJS.Timeout | undefined
  private closed = false
  private takesChanges = true

  constructor(private readonly parts: PolicyClientParts) {
    this.waitForEnd(this.ruleSet)
  }

  /** The actor of changes that name none. */
  get actor(): string {
    return this.parts.actor
  }

  /** The version in force, as far as this process knows. */
  get ruleSet(): RuleSet {
    return this.parts.resolver.rules
  }

  /** Changes the policy of the namespace; in this process at once. @throws CLOSED, and what the change throws; nothing is changed then */
  async change(change: PolicyChange): Promise<void> {
    if (!this.takesChanges) throw new TollgateError('CLOSED', 'this Tollgate was closed')
    // After the reads under way: a version that was read before this change must not replace it.
    const changing = this.reading.then(async () => this.use(await this.parts.rules.change(change)))
    this.reading = changing.catch(() => {})
    return changing
  }

  /** Makes a change that takes something away. Returns whether any run of it found that: an earlier try may have removed it, and lost its reply. */
  async remove(change: PolicyChange): Promise<boolean> {
    let found = false
    await this.change((policy, nowMs) => {
      const changed = change(policy, nowMs)
      found ||= changed.noted.some(({ before }) => before !== null)
      return changed
    })
    return found
  }

  /** Reads the audit, after the ends of overrides were noted in it. */
  async audit(query: CheckedQuery): Promise<AuditEntry[]> {
    await this.change(NO_CHANGE)
    // Redis trims the stream in blocks: entries older than the retention may still be there, and are left out.
    const oldestMs = (await this.parts.rules.nowMs()) - retentionOf(this.ruleSet.policy)
    return this.parts.rules.audit.read({ ...query, sinceMs: Math.max(query.sinceMs, oldestMs) })
  }

  /** Reads the policy again: another process has changed it, or may have. */
  refresh(): void {
    const { rules } = this.parts
    this.load('the rules could not be read; those known stay in force', async () => {
      const read = await rules.read(this.ruleSet)
      // An override has ended: note it in the audit, unless another process was faster.
      return read.overrides.length < read.policy.overrides.length ? rules.change(NO_CHANGE) : read
    })
    this.countUses()
  }

  /** Adds the uses of overrides in this process to those of the namespace, and learns those. */
  async syncUses(): Promise<RuleSet> {
    const { resolver, rules } = this.parts
    if (resolver.rules.overrides.length > 0 || resolver.uses.some) await resolver.uses.sync((counts) => rules.addUses(counts))
    return this.ruleSet
  }

  private countUses(): void {
    this.load('the uses of overrides could not be counted; they are later', () => this.syncUses())
  }

  /** How often an override was used. */
  usesOf(id: string): number {
    return this.parts.resolver.uses.of(id)
  }

  /** Says what may not be meant as it was set. */
  warn(details: object, message: string): void {
    this.parts.log.warn(details, message)
  }

  /** Takes over the policy that Redis has, and fails where that cannot be read. */
  sync(): Promise<void> {
    const reading = this.reading.then(async () => this.use(await this.parts.rules.read(this.ruleSet)))
    this.reading = reading.catch(() => {})
    return reading
  }

  /** Its process closes: it changes the policy no more, and follows it as long as calls are still decided on here. */
  refuseChanges(): void {
    this.takesChanges = false
  }

  /** Stops. Resolves when no read is under way any more. */
  close(): Promise<void> {
    this.takesChanges = false
    this.closed = true
    clearTimeout(this.timer)
    // Best effort: a closing process does not wait for a Redis that is away.
    this.reading = this.reading
      .then(() => this.syncUses())
      .then(
        () => {},
        () => {},
      )
    return this.reading
  }

  private load(complaint: string, read: () => Promise<RuleSet>): void {
    this.reading = this.reading
      .then(async () => {
        if (!this.closed) this.use(await read())
      })
      .catch((error: unknown) => {
        // An outage of Redis is logged by the circuit breaker, once.
        if (!(error instanceof StoreUnavailable)) this.parts.log.error({ err: error }, complaint)
      })
  }

  private use(ruleSet: RuleSet): void {
    const { resolver, changed } = this.parts
    const before = resolver.rules
    // Unchanged: its timer is set already.
    if (ruleSet === before) return
    this.waitForEnd(ruleSet)
    if (ruleSet.version === before.version && ruleSet.nextEndMs === before.nextEndMs) return
    resolver.rules = ruleSet
    changed(before)
    this.countUses()
  }

  private waitForEnd({ nextEndMs, asOfMs }: Pick<RuleSet, 'nextEndMs' | 'asOfMs'>): void {
    clearTimeout(this.timer)
    if (nextEndMs === null || this.closed) return
    const { clock, rules } = this.parts
    // '' unless a test sets the clock: then it is polled.
    const given = () => clock.forScripts()
    const waitMs = given() === '' ? Math.min(LONGEST_TIMER_MS, Math.max(1, nextEndMs - asOfMs)) : DEFAULTS.givenClockCheckMs
    this.timer = setTimeout(() => {
      if (given() !== '' && Number(given()) < nextEndMs) return this.waitForEnd({ nextEndMs, asOfMs })
      // Before the store is reached: the override ends here on time even while Redis is away.
      const { version, policy, owns } = this.ruleSet
      this.use({ ...compilePolicy(policy, nextEndMs, owns.twins), version })
      this.load('the end of an override could not be noted; it is when the rules are read again', () => rules.change(NO_CHANGE))
    }, waitMs)
    this.timer.unref()
  }
}

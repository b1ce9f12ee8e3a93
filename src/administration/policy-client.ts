import type { Logger } from 'pino'
import type { Resolver } from '../admission/resolver.js'
import { DEFAULTS } from '../model/defaults.js'
import { StoreUnavailable, TollgateError } from '../model/errors.js'
import type { Clock } from '../model/time.js'
import { compilePolicy, type RuleSet } from '../policy/compile.js'
import { retentionOf } from '../policy/policy.js'
import type { AuditEntry, CheckedQuery } from './audit.js'
import type { PolicyChange } from './change.js'
import type { PolicyStore } from './policy-store.js'

/** Changes nothing but what time does: overrides that have ended go. */
const NOTHING_NEW: PolicyChange = (policy) => ({ policy, noted: [] })

/** Timers cannot be set further ahead. */
const LONGEST_TIMER_MS = 2 ** 31 - 1

export interface PolicyClientParts {
  readonly resolver: Resolver
  readonly rules: PolicyStore
  readonly clock: Clock
  readonly log: Logger
  /** Who changes things where nobody else is named. */
  readonly actor: string
  /** What is in force is different now: whoever waits may have room. */
  readonly changed: (before: RuleSet) => void
}

/**
 * The policy as this process goes by it: changed here, read again where another changed it, and
 * worked out anew when an override ends. That is by the store's clock; this process only ever
 * waits for the time that is left, so its own clock may be an hour off.
 */
export class PolicyClient {
  readonly actor: string
  private readonly parts: PolicyClientParts
  private reading: Promise<void> = Promise.resolve()
  private timer: NodeJS.Timeout | undefined
  private closed = false

  constructor(parts: PolicyClientParts) {
    this.parts = parts
    this.actor = parts.actor
    this.waitForEnd(this.ruleSet)
  }

  /** What is in force, as far as this process has heard. */
  get ruleSet(): RuleSet {
    return this.parts.resolver.rules
  }

  /** Changes the policy everywhere; here at once. @throws CLOSED, and what the change throws; nothing is changed then */
  async change(change: PolicyChange): Promise<void> {
    if (this.closed) throw new TollgateError('CLOSED', 'this Tollgate was closed')
    // One after the other: what was read before a change must not be taken for newer than it.
    const changing = this.reading.then(async () => this.use(await this.parts.rules.change(change)))
    this.reading = changing.catch(() => {})
    return changing
  }

  /** What was changed. Overrides that have ended are noted by then. */
  async audit(query: CheckedQuery): Promise<AuditEntry[]> {
    await this.change(NOTHING_NEW)
    // Redis drops entries some at a time: what is too old is not shown even where it is still there.
    const oldestMs = (await this.parts.rules.nowMs()) - retentionOf(this.ruleSet.policy)
    return this.parts.rules.audit.read({ ...query, sinceMs: Math.max(query.sinceMs, oldestMs) })
  }

  /** Another process changed it, or may have. */
  refresh(): void {
    const { rules } = this.parts
    this.read('the rules could not be read; those known stay in force', async () => {
      const read = await rules.read(this.ruleSet)
      // An override that has ended is noted by whoever sees it first.
      return read.overrides.length < read.policy.overrides.length ? rules.change(NOTHING_NEW) : read
    })
  }

  /** Stops; resolves when nothing is being read any more. */
  close(): Promise<void> {
    this.closed = true
    clearTimeout(this.timer)
    return this.reading
  }

  private read(complaint: string, how: () => Promise<RuleSet>): void {
    this.reading = this.reading
      .then(async () => {
        if (!this.closed) this.use(await how())
      })
      .catch((error: unknown) => {
        // That Redis is away is said by who watches it, once.
        if (!(error instanceof StoreUnavailable)) this.parts.log.error({ err: error }, complaint)
      })
  }

  private use(ruleSet: RuleSet): void {
    const { resolver, changed } = this.parts
    const before = resolver.rules
    // The timer of what is known runs on: it was set when that was worked out.
    if (ruleSet === before) return
    this.waitForEnd(ruleSet)
    if (ruleSet.version === before.version && ruleSet.nextEndMs === before.nextEndMs) return
    resolver.rules = ruleSet
    changed(before)
  }

  /**
   * Ends are noted by whoever is first to see them. What if it dies before that: another does. If
   * nobody is left: the next change does, or the next look at the audit.
   */
  private waitForEnd({ nextEndMs, asOfMs }: Pick<RuleSet, 'nextEndMs' | 'asOfMs'>): void {
    clearTimeout(this.timer)
    if (nextEndMs === null || this.closed) return
    const { clock, rules } = this.parts
    const given = () => clock.forScripts()
    const waitMs = given() === '' ? Math.min(LONGEST_TIMER_MS, Math.max(1, nextEndMs - asOfMs)) : DEFAULTS.givenClockCheckMs
    this.timer = setTimeout(() => {
      if (given() !== '' && Number(given()) < nextEndMs) return this.waitForEnd({ nextEndMs, asOfMs })
      // Here at once, whether the store is there or not.
      const { version, policy } = this.ruleSet
      this.use({ ...compilePolicy(policy, nextEndMs), version })
      this.read('the end of an override could not be noted; it is when the rules are read again', () => rules.change(NOTHING_NEW))
    }, waitMs)
    this.timer.unref()
  }
}

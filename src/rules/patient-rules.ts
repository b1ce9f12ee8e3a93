import type { Redis } from 'ioredis'
import type { AuditLog } from '../audit/log.js'
import { Patience, unanswered } from '../redis/patience.js'
import type { Change } from './change.js'
import type { RuleSet } from './compile.js'
import type { RuleStore } from './rule-store.js'

/** The policy in a Redis that may be away: then whoever asks is told so in time, and nothing waits for it to come back. */
export class PatientRules implements RuleStore {
  readonly audit: AuditLog
  private readonly rules: RuleStore
  private readonly redis: Redis
  private readonly timeoutMs: number

  /** @param timeoutMs how long Redis may take */
  constructor(rules: RuleStore, redis: Redis, timeoutMs: number) {
    this.rules = rules
    this.redis = redis
    this.timeoutMs = timeoutMs
    this.audit = { read: (query) => this.ask('the look at the audit', () => rules.audit.read(query)) }
  }

  /** @throws StoreUnavailable that says whether it may have been changed after all, and what the change throws */
  change(change: Change): Promise<RuleSet> {
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

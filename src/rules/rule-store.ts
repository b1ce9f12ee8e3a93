import type { Redis } from 'ioredis'
import type { PriceTable } from '../cost/prices.js'
import type { Keys } from '../redis/keys.js'
import { compileRules, type RuleSet } from './compile.js'
import { checkRules } from './read.js'
import type { RuleSpec } from './rule.js'

/** The namespace's declared rules, in Redis: the latest declaration wins everywhere, usage is kept. */
export class RuleStore {
  private readonly redis: Redis
  private readonly keys: Keys

  constructor(redis: Redis, keys: Keys) {
    this.redis = redis
    this.keys = keys
  }

  /** Writes rules and tells every process of the namespace. Rules equal to those in force change nothing. */
  async declare(specs: readonly RuleSpec[], prices: Readonly<PriceTable>): Promise<RuleSet> {
    const set = compileRules(specs, prices)
    const before = await this.redis.hget(this.keys.rules, 'version')
    if (before !== set.version) {
      await this.redis.hset(this.keys.rules, { version: set.version, rules: JSON.stringify(specs), prices: JSON.stringify(prices) })
      await this.redis.publish(this.keys.notices, JSON.stringify({ rules: set.version }))
    }
    return set
  }

  /** The rules in force; `known` itself where they are still the same. */
  async read(known?: RuleSet): Promise<RuleSet> {
    const version = await this.redis.hget(this.keys.rules, 'version')
    if (known !== undefined && (version ?? known.version) === known.version) return known
    const [rules, prices] = await this.redis.hmget(this.keys.rules, 'rules', 'prices')
    const checked = checkRules(JSON.parse(rules ?? '[]') as RuleSpec[], JSON.parse(prices ?? '{}') as PriceTable)
    return compileRules(checked.rules, checked.prices)
  }
}

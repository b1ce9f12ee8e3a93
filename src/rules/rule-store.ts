import type { Redis } from 'ioredis'
import type { PriceTable } from '../cost/prices.js'
import type { Keys } from '../redis/keys.js'
import { scripts } from '../redis/scripts.js'
import { compileRules, type RuleSet } from './compile.js'
import { checkRules } from './read.js'
import type { RuleSpec } from './rule.js'

/** Where the rules of a namespace are kept. A change gives back the rules in force after it. */
export interface RuleStore {
  /** Makes these the namespace's declared rules: the latest wins, usage and added rules are kept. */
  declare(specs: readonly RuleSpec[], prices: Readonly<PriceTable>): Promise<RuleSet>
  /** Adds a rule beside the declared ones, or replaces the added one of its name; null removes it. @throws RulesInvalid */
  put(name: string, spec: RuleSpec | null): Promise<RuleSet>
  /** The rules in force; `known` itself where they are still the same. */
  read(known?: RuleSet): Promise<RuleSet>
}

type Change = (set: RuleSet) => RuleSet

function declared(specs: readonly RuleSpec[], prices: Readonly<PriceTable>): Change {
  return ({ added }) => {
    // Names must differ from those that were added at run time, too.
    checkRules([...specs, ...added])
    return compileRules(specs, prices, added)
  }
}

function added(name: string, spec: RuleSpec | null): Change {
  return (set) => {
    const others = set.added.filter((one) => one.name !== name)
    const all = spec === null ? others : [...others, spec]
    checkRules([...set.declared, ...all])
    return compileRules(set.declared, set.priceTable, all)
  }
}

/** The rules of a process that is alone. */
export class MemoryRules implements RuleStore {
  private set = compileRules([])

  declare(specs: readonly RuleSpec[], prices: Readonly<PriceTable>): Promise<RuleSet> {
    return this.change(declared(specs, prices))
  }

  put(name: string, spec: RuleSpec | null): Promise<RuleSet> {
    return this.change(added(name, spec))
  }

  read(): Promise<RuleSet> {
    return Promise.resolve(this.set)
  }

  private async change(change: Change): Promise<RuleSet> {
    this.set = change(this.set)
    return this.set
  }
}

/** Which of the rules that are kept a change is worked out from. */
const ALL = 'all'
const ADDED = 'added'
type Needed = typeof ALL | typeof ADDED

/** The rules of a namespace in Redis. */
export class RedisRules implements RuleStore {
  private readonly redis: Redis
  private readonly keys: Keys

  constructor(redis: Redis, keys: Keys) {
    this.redis = redis
    this.keys = keys
  }

  declare(specs: readonly RuleSpec[], prices: Readonly<PriceTable>): Promise<RuleSet> {
    // The rules that go may be those of another version of Tollgate, which this one takes for wrong.
    return this.change(declared(specs, prices), ADDED)
  }

  put(name: string, spec: RuleSpec | null): Promise<RuleSet> {
    return this.change(added(name, spec), ALL)
  }

  async read(known?: RuleSet): Promise<RuleSet> {
    const version = await this.redis.hget(this.keys.rules, 'version')
    return known !== undefined && (version ?? known.version) === known.version ? known : (await this.current(ALL)).set
  }

  /** Rules equal to those in force change nothing. Whoever finds that others were faster works on theirs. */
  private async change(change: Change, needed: Needed): Promise<RuleSet> {
    for (;;) {
      const { version, set } = await this.current(needed)
      const next = change(set)
      if (next.version === version) return next
      const args = [version, next.version, JSON.stringify(next.declared), JSON.stringify(next.priceTable), JSON.stringify(next.added)]
      const notice = JSON.stringify({ rules: next.version })
      if ((await scripts.declare.run(this.redis, [this.keys.rules, this.keys.notices], [...args, notice])) === 1) return next
    }
  }

  private async current(needed: Needed): Promise<{ version: string; set: RuleSet }> {
    const [version, ...parts] = await this.redis.hmget(this.keys.rules, 'version', 'rules', 'prices', 'added')
    const [rules, prices, more] = needed === ALL ? parts : [null, null, parts[2]]
    const checked = checkRules(JSON.parse(rules ?? '[]') as RuleSpec[], JSON.parse(prices ?? '{}') as PriceTable)
    return { version: version ?? '', set: compileRules(checked.rules, checked.prices, checkRules(JSON.parse(more ?? '[]') as RuleSpec[]).rules) }
  }
}

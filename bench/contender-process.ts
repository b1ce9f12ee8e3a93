import { Redis } from 'ioredis'
import { type Answer, type RuleSpec, Tollgate } from '../src/index.js'
import { type Check, contender } from './lib/compare.js'
import { OTHER_KEYS } from './lib/namespace.js'
import { PEERS, type Peer, ROOMY } from './lib/peers.js'
import { serve } from './lib/processes.js'

// One contender: sends checks for a given time, and answers their rate.
export interface ContenderOptions {
  readonly redis: string
  readonly namespace: string
  /** In a check: one limit per minute of the user; or nine, per minute, hour and day of user, team and org. */
  readonly limits: 1 | 9
  /** 'tollgate' checks limiters by key, as peers do; 'rules' admits a call at the gate; 'bare' runs a script that increments one key. */
  readonly contender: 'tollgate' | 'rules' | 'bare' | Peer
  /** Whether ioredis pipelines the commands of one turn of the event loop. */
  readonly pipelined?: boolean
}

const SCOPES = ['user', 'team', 'org'] as const
const PERIODS = { minute: 60, hour: 3600, day: 86_400 }

const options = JSON.parse(process.argv[2] ?? '{}') as ContenderOptions
const redis = new Redis(options.redis, { enableAutoPipelining: options.pipelined === true })
const identityOf = (index: number) => ({ user: `u${index % 100}`, team: `t${index % 10}`, org: `o${index % 3}` })

async function bare(): Promise<Check> {
  const sha = (await redis.script('LOAD', "return redis.call('INCR', KEYS[1])")) as string
  return (index) => redis.evalsha(sha, 1, `${OTHER_KEYS}${identityOf(index).user}`)
}

/** Nine limits are fixed windows, as those of the peers; one limit is a token bucket, the default of rules. */
function rules(): RuleSpec[] {
  if (options.limits === 1) return [{ name: 'user', scope: 'user', limits: [{ requests: ROOMY, per: 'minute' }] }]
  const limits = Object.keys(PERIODS).map((per) => ({ requests: ROOMY, per, algorithm: 'fixed_window' as const }))
  return SCOPES.map((scope) => ({ name: scope, scope, limits }))
}

let checked = false

/** The number of limits is checked on the first answer only: peers answer no more than whether a check is allowed. */
function mustBeAllowed(answer: Answer): void {
  if (!answer.allowed) throw new Error('the benchmark reached its limit')
  if (!checked && answer.usage.length !== options.limits) throw new Error(`the benchmark checked ${answer.usage.length} limits instead of ${options.limits}`)
  checked = true
}

/** A call under rules, with an entry in the ledger by which it can be settled. */
function byRules(tollgate: Tollgate): Check {
  return async (index) => {
    const scopes = identityOf(index)
    mustBeAllowed(await tollgate.gate.admit(options.limits === 1 ? { agent: 'a', user: scopes.user } : { agent: 'a', ...scopes }))
  }
}

function byKey(tollgate: Tollgate): Check {
  const limiters = rules().map(({ name, limits }) => tollgate.limiter(limits.map((limit) => ({ ...limit, name: `${name}-${limit.per}` }))))
  const [one] = limiters
  if (options.limits === 1 && one !== undefined) return async (index) => mustBeAllowed(await one.check(identityOf(index).user))
  const nine = tollgate.all(limiters)
  return async (index) => {
    const { user, team, org } = identityOf(index)
    mustBeAllowed(await nine.check([user, team, org]))
  }
}

/** A peer checks all of its limits at once. */
function theirs(peer: Peer): Check {
  if (options.limits === 1) {
    const check = PEERS[peer](redis, 'user:60', PERIODS.minute)
    return (index) => check(identityOf(index).user)
  }
  const limiters = SCOPES.flatMap((scope) => Object.values(PERIODS).map((seconds) => ({ scope, check: PEERS[peer](redis, `${scope}:${seconds}`, seconds) })))
  return (index) => {
    const scopes = identityOf(index)
    return Promise.all(limiters.map(({ scope, check }) => check(scopes[scope])))
  }
}

const ours = options.contender === 'tollgate' ? byKey : options.contender === 'rules' ? byRules : undefined
const tollgate = ours !== undefined ? await Tollgate.open({ redis: options.redis, namespace: options.namespace, rules: rules() }) : undefined
const check = tollgate !== undefined && ours !== undefined ? ours(tollgate) : options.contender === 'bare' ? await bare() : theirs(options.contender as Peer)
const rate = contender(check)

serve({ ready: () => null, rate: (forMs) => rate(forMs as number) }, async () => {
  await tollgate?.close()
  redis.disconnect()
})

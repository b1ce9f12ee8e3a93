import { Redis } from 'ioredis'
import { type Answer, type RuleSpec, Tollgate } from '../src/index.js'
import { type Check, contender } from './lib/compare.js'
import { OTHER_KEYS } from './lib/namespace.js'
import { PEERS, type Peer, ROOMY } from './lib/peers.js'
import { serve } from './lib/processes.js'

// One contender: checks for a time, and says how fast it was.
export interface ContenderOptions {
  readonly redis: string
  readonly namespace: string
  /** Per check: one per minute on the user, or per minute, hour and day on user, team and org. */
  readonly limits: 1 | 9
  /** 'tollgate' asks limiters by key, as the peers are asked; 'rules' the gate with a call; 'bare' is the least that a script on a key can cost. */
  readonly contender: 'tollgate' | 'rules' | 'bare' | Peer
  /** Whether ioredis writes the commands of one turn together. */
  readonly pipelined?: boolean
}

const SCOPES = ['user', 'team', 'org'] as const
const PERIODS = { minute: 60, hour: 3600, day: 86_400 }

const options = JSON.parse(process.argv[2] ?? '{}') as ContenderOptions
const redis = new Redis(options.redis, { enableAutoPipelining: options.pipelined === true })
const whom = (index: number) => ({ user: `u${index % 100}`, team: `t${index % 10}`, org: `o${index % 3}` })

async function bare(): Promise<Check> {
  const sha = (await redis.script('LOAD', "return redis.call('INCR', KEYS[1])")) as string
  return (index) => redis.evalsha(sha, 1, `${OTHER_KEYS}${whom(index).user}`)
}

/** Nine are fixed windows, as the peers' are; one is what a rule has by default, a token bucket. */
function rules(): RuleSpec[] {
  if (options.limits === 1) return [{ name: 'user', scope: 'user', limits: [{ requests: ROOMY, per: 'minute' }] }]
  const limits = Object.keys(PERIODS).map((per) => ({ requests: ROOMY, per, algorithm: 'fixed_window' as const }))
  return SCOPES.map((scope) => ({ name: scope, scope, limits }))
}

let looked = false

/** That all limits were asked is seen once: a peer does not say more than whether it let in, either. */
function mustBeAllowed(answer: Answer): void {
  if (!answer.allowed) throw new Error('the benchmark reached its limit')
  if (!looked && answer.usage.length !== options.limits) throw new Error(`the benchmark asked ${answer.usage.length} limits instead of ${options.limits}`)
  looked = true
}

/** A call under rules, with an entry in the ledger by which it can be settled. */
function byRules(tollgate: Tollgate): Check {
  return async (index) => {
    const scopes = whom(index)
    mustBeAllowed(await tollgate.gate.admit(options.limits === 1 ? { agent: 'a', user: scopes.user } : { agent: 'a', ...scopes }))
  }
}

function byKey(tollgate: Tollgate): Check {
  const limiters = rules().map(({ name, limits }) => tollgate.limiter(limits.map((limit) => ({ ...limit, name: `${name}-${limit.per}` }))))
  const [one] = limiters
  if (options.limits === 1 && one !== undefined) return async (index) => mustBeAllowed(await one.check(whom(index).user))
  const nine = tollgate.all(limiters)
  return async (index) => {
    const { user, team, org } = whom(index)
    mustBeAllowed(await nine.check([user, team, org]))
  }
}

/** A peer is asked for all of its limits at once. */
function theirs(peer: Peer): Check {
  if (options.limits === 1) {
    const ask = PEERS[peer](redis, 'user:60', PERIODS.minute)
    return (index) => ask(whom(index).user)
  }
  const limiters = SCOPES.flatMap((scope) => Object.values(PERIODS).map((seconds) => ({ scope, ask: PEERS[peer](redis, `${scope}:${seconds}`, seconds) })))
  return (index) => {
    const scopes = whom(index)
    return Promise.all(limiters.map(({ scope, ask }) => ask(scopes[scope])))
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

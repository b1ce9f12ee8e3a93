import { Redis } from 'ioredis'
import type { AdmissionRequest } from '../src/admission/request.js'
import { Resolver } from '../src/admission/resolver.js'
import { GivenClock, MemoryStore, type RuleSpec, type Store } from '../src/index.js'
import { AS_ESTIMATED, NOTHING } from '../src/model/cost.js'
import { compileRules } from '../src/policy/compile.js'
import { checkRules } from '../src/policy/rules-file.js'
import { Keys } from '../src/redis/keys.js'
import { RedisStore } from '../src/store/redis/redis-store.js'
import { ScriptClient } from '../src/store/redis/script-client.js'
import { atLeast, atMost, type Figure } from './lib/measure.js'
import { inNamespaces } from './lib/namespace.js'

const NAMESPACE = 'bench-late-settlements'
const BEGIN_MS = 1_800_000_000_000
const MINUTE_MS = 60_000
const MINUTES = 6
/** Tokens a minute, and at most at once. */
const LIMIT = 60_000
const PER_MS = LIMIT / MINUTE_MS
const ESTIMATE = 200
const ACTUAL = 100
const LATE_MS = [5000, 30_000] as const

const RULES: readonly RuleSpec[] = [{ name: 'account', scope: 'agent', limits: [{ tokens: LIMIT, per: 'minute' }] }]

/**
 * A meter that calls always wait for, whose estimates are twice the truth, and are settled so much later: how much of the limit the calls use in truth
 * after the first minute, and how full the agent's own bucket is at most. On a given clock, so that minutes take seconds.
 */
export function lateSettlements(redis: string): Promise<Figure[]> {
  return inNamespaces(redis, [NAMESPACE], async () => {
    const client = new Redis(redis)
    const keys = new Keys(NAMESPACE)
    const resolver = new Resolver(compileRules(checkRules(RULES).rules), keys)
    const figures: Figure[] = []
    for (const lateMs of LATE_MS) {
      const inMemory = new GivenClock(BEGIN_MS)
      const inRedis = new GivenClock(BEGIN_MS)
      const request = { id: '', token: '', call: {}, ...resolver.resolve({ agent: `late-${lateMs}` }, { ...NOTHING, tokens: ESTIMATE }) }
      figures.push(...(await measure('in memory', new MemoryStore(() => inMemory.nowMs), inMemory, request, lateMs)))
      figures.push(...(await measure('in Redis', new RedisStore(new ScriptClient(client, resolver, inRedis), client, inRedis), inRedis, request, lateMs)))
    }
    client.disconnect()
    return figures
  })
}

/** What the agent's own bucket lacks: it is charged what calls really cost, when they start. */
class AgentBucket {
  most = 0
  private lacks = 0
  private atMs = BEGIN_MS

  start(cost: number, nowMs: number): void {
    this.lacks = Math.max(0, this.lacks - PER_MS * (nowMs - this.atMs)) + cost
    this.atMs = nowMs
    this.most = Math.max(this.most, this.lacks)
  }
}

async function measure(where: string, store: Store, clock: GivenClock, request: AdmissionRequest, lateMs: number): Promise<Figure[]> {
  const agent = new AgentBucket()
  const running: { request: AdmissionRequest; endsMs: number }[] = []
  const endMs = BEGIN_MS + MINUTES * MINUTE_MS
  let used = 0
  let calls = 0
  while (clock.nowMs < endMs) {
    while ((running[0]?.endsMs ?? Number.POSITIVE_INFINITY) <= clock.nowMs) {
      const { request: ended } = running.shift() as (typeof running)[number]
      await store.settle(ended, { ...AS_ESTIMATED, tokens: ACTUAL }, 'end')
    }
    const { request: started, decision } = await store.admit(request)
    if (decision.outcome === 'reject') {
      clock.nowMs = Math.min(clock.nowMs + (decision.retryAfterMs ?? MINUTE_MS), running[0]?.endsMs ?? endMs)
      continue
    }
    calls++
    running.push({ request: started, endsMs: clock.nowMs + lateMs })
    agent.start(ACTUAL, clock.nowMs)
    if (clock.nowMs >= BEGIN_MS + MINUTE_MS) used += ACTUAL
  }
  const what = `estimates twice the truth, settled ${lateMs / 1000} s later, ${where}`
  const detail = `${calls} calls in ${MINUTES} minutes of a given clock, ${LIMIT.toLocaleString('en')} tokens a minute`
  return [
    atLeast(`${what}: share of the limit really used after the first minute`, used / ((MINUTES - 1) * LIMIT), 0.97, detail),
    atMost(`${what}: the agent's own bucket, at most, against its burst`, Math.round((1e4 * agent.most) / LIMIT) / 1e4, 1, detail),
  ]
}

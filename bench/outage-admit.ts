import type { AdmissionRequest } from '../src/admission/request.js'
import { Resolver } from '../src/admission/resolver.js'
import { type Call, MemoryStore, type RuleSpec } from '../src/index.js'
import { LocalAdmission } from '../src/outage/local-admission.js'
import { compileRules } from '../src/policy/compile.js'
import { checkRules } from '../src/policy/rules-file.js'
import { Keys } from '../src/redis/keys.js'
import { LedgerNames } from '../src/store/ledger-names.js'
import type { Admission } from '../src/store/store.js'
import { atMost, type Figure, median } from './lib/measure.js'

/** Open at once, at most. */
const CALLS = 500
const PAIRS = 1201
const WARM_UP = 400
const VALUES = 100
const ROOMY = 1e9
const BAR = 1.3

const ONE: readonly RuleSpec[] = [{ name: 'user', scope: 'user', limits: [{ requests: ROOMY, per: 'minute' }] }]
const NINE: readonly RuleSpec[] = (['user', 'team', 'org'] as const).map((scope) => ({
  name: scope,
  scope,
  limits: [
    { requests: ROOMY, per: 'minute' },
    { requests: ROOMY, per: 'hour', algorithm: 'sliding_window' },
    { tokens: ROOMY, per: 'day', algorithm: 'fixed_window' },
  ],
}))

/** What both sides are asked: to admit calls, and, unmeasured, to take them back. */
interface Contender {
  admit(request: AdmissionRequest): Admission
  release(request: AdmissionRequest): boolean
}

/** Milliseconds for one round of calls. */
function round(contender: Contender, requests: readonly AdmissionRequest[]): number {
  const begin = performance.now()
  const admitted = requests.map((request) => contender.admit(request))
  const tookMs = performance.now() - begin
  for (const { request, decision } of admitted) {
    if (decision.outcome !== 'run') throw new Error('the benchmark reached its limit')
    contender.release(request)
  }
  return tookMs
}

function ratio(rules: readonly RuleSpec[], what: string): Figure {
  const resolver = new Resolver(compileRules(checkRules(rules).rules), new Keys('bench-outage-admit'))
  const requests = Array.from({ length: CALLS }, (_, n): AdmissionRequest => {
    const value = `v${n % VALUES}`
    const call: Call = { agent: 'llm', user: value, team: value, org: value }
    const costs = { requests: 1, tokens: 100, inputTokens: 50, outputTokens: 50, usd: 0, points: 1, uncachedInputTokens: 50 }
    return { id: '', token: '', call, ...resolver.resolve(call, costs) }
  })
  const clock = () => performance.timeOrigin + performance.now()
  const store = new MemoryStore(clock)
  const outage = new LocalAdmission('local', 0, new LedgerNames(), clock)
  outage.begin({ of: 4, rank: 0 })
  const ratios: number[] = []
  const storeMs: number[] = []
  for (let pair = -WARM_UP; pair < PAIRS; pair++) {
    // Each pair begins with the other one.
    const first = pair % 2 === 0 ? round(store, requests) : 0
    const ofOutage = round(outage, requests)
    const ofStore = pair % 2 === 0 ? first : round(store, requests)
    if (pair < 0) continue
    ratios.push(ofOutage / ofStore)
    storeMs.push(ofStore)
  }
  const eachUs = (1000 * median(storeMs)) / CALLS
  return atMost(what, median(ratios), BAR, `median of ${PAIRS} pairs of ${CALLS} calls, ${VALUES} scope values; ${eachUs.toFixed(2)} µs a call in the store`)
}

/** What an admit costs while Redis is away (`local`), against the same admit at a store in memory: in pairs of one process, both sides after each other. */
export async function outageAdmit(): Promise<Figure[]> {
  return [ratio(ONE, 'an admit in an outage against one at a store in memory, one limit'), ratio(NINE, 'the same, 3 scopes × 3 limits')]
}

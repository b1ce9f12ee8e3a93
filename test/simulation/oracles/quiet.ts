import type { Bounds, FactLimit, FaultKind, Form, KeyFact, Report } from './facts.js'
import { acceptedMs, type History } from './history.js'
import { ledgerReports } from './ledger-sums.js'
import { usageReports } from './usage-sums.js'

/** What calls leave while they are under way, and what must be gone with the last of them. */
const OF_CALLS_UNDER_WAY = [/^\/l\//, /^\/s\//, /^\/(lines|passes|deadlines)$/]
const OF_JOBS_UNDER_WAY = /^:([^:]+):(wait|active|delayed|prioritized|paused|.+:lock)$/
/** What has no end on purpose: configuration, and a stream whose entries end one by one. */
const WITHOUT_END = ['/rules', '/audit']
const DAY_MS = 86_400_000
/** Faults for which the end of a run may never be told, or be forgotten. */
const LEAVES_OPEN: readonly FaultKind[] = ['death', 'stop', 'failover', 'redis away', 'redis refuses writes']
/** A key may outlive its reason by the rounding of its end. */
const SLACK_MS = 2000

/** Quiet: after all work has ended, and time has passed, nothing of it is left, and the sums are those of what was charged and settled. */
export function quiet(history: History, bounds: Bounds): Report[] {
  const reports: Report[] = []
  const unworked = queuesWithoutWorkers(history)
  const unfinished = [...history.stories.values()].some(
    ({ asked, results, runs }) => unworked.has(asked.queue ?? '') && results.length === 0 && runs.length === 0,
  )
  const openRuns = history.runs.some(({ ended }) => ended === undefined) || history.faults.some(({ fault }) => LEAVES_OPEN.includes(fault))
  for (const fact of history.facts) {
    if (fact.fact !== 'key left') continue
    const key = fact.key.slice(fact.key.indexOf('}') + 1)
    const text = faultOfKey(history, key, fact, { unworked, unfinished, openRuns })
    if (text !== undefined) reports.push({ oracle: 'quiet', atMs: fact.atMs, text: `the key ${fact.key} (${fact.type}) ${text}`, calls: [] })
  }
  reports.push(...usageReports(history, bounds), ...ledgerReports(history, bounds))
  return reports
}

interface Left {
  /** Queues whose calls cannot go on at the end. */
  readonly unworked: ReadonlySet<string>
  /** Whether calls of such queues are still under way. */
  readonly unfinished: boolean
  readonly openRuns: boolean
}

function faultOfKey(history: History, key: string, { ttlMs }: KeyFact, { unworked, unfinished, openRuns }: Left): string | undefined {
  const [, queue] = OF_JOBS_UNDER_WAY.exec(key) ?? []
  if (queue !== undefined) return unworked.has(queue) ? undefined : 'is left, though no job is under way'
  if (!key.startsWith('/')) return undefined
  if (OF_CALLS_UNDER_WAY.some((pattern) => pattern.test(key)) && !unfinished) return 'is left, though no call is under way'
  if (ttlMs === null) return WITHOUT_END.includes(key) ? undefined : 'has no end'
  if (/^\/[cg]\//.test(key) && !unfinished) {
    // An entry of a ledger lives for a day at most, the record of a call longer.
    if (key.startsWith('/c/') && ttlMs > DAY_MS) return `is the record of a call, and none is under way (it ends in ${(ttlMs / DAY_MS).toFixed(1)} days)`
    // An older state has entries whose settlements it has not got.
    if (!openRuns && !history.faults.some(({ fault }) => fault === 'failover')) return 'is a ledger, and every run was settled'
  }
  const [, kind, rule = ''] = /^\/([mh])\/([^/]+)\//.exec(key) ?? []
  if (kind === undefined || rule.startsWith('~')) return undefined
  const longestMs = longestUse(history, rule)
  return ttlMs > longestMs + SLACK_MS ? `ends in ${ttlMs} ms; what it remembers counts for ${longestMs.toFixed(0)} ms at most` : undefined
}

/**
 * A call that waits keeps room at a rule that refuses for as long as that remembers a charge, rounded up by this part of it. Where the rule was withdrawn
 * it gives that back in the stored value, whose key lives on.
 */
const CLAIM_ROUNDING = 1 / 64

/** How long a meter of a rule can differ from an empty one. Debt lasts as long as it takes; an agent that refuses has smaller limits. */
function longestUse(history: History, rule: string): number {
  const { versions, runs, stories } = history
  // What is recorded is charged above a limit, too.
  const recorded = [...stories.values()].filter(({ asked }) => asked.door === 'record')
  const met = recorded.flatMap(({ asked }) => history.metersDuring(asked.scopes, asked.atMs, asked.atMs).flat())
  if (met.some(({ id }) => id.startsWith(`${rule}/`))) return Number.POSITIVE_INFINITY
  const owes = runs.some(({ ended, story: { asked } }) => {
    if (ended?.how === 'sent back') return true
    return Object.entries(ended?.actual ?? {}).some(([unit, cost]) => cost > (asked.costs[unit as keyof typeof asked.costs] ?? 0))
  })
  if (owes) return Number.POSITIVE_INFINITY
  const limits = versions.flatMap((version) => version.limits)
  const own = limits.filter(({ name }) => name.startsWith(`${rule}/`))
  const longestMs = Math.max(0, ...(own.length > 0 ? own : limits).flatMap(formsOf).map(useOf))
  const wasWithdrawn = versions.some((version) => version.limits.every(({ name }) => !name.startsWith(`${rule}/`)))
  return wasWithdrawn ? longestMs * (1 + CLAIM_ROUNDING) : longestMs
}

function formsOf({ form, forms }: FactLimit): Form[] {
  return [form, ...Object.values(forms ?? {}).filter((one) => one !== null)]
}

function useOf(form: Form): number {
  switch (form.kind) {
    case 'bucket':
      return (form.burst * 1000) / form.perSecond
    case 'leaky bucket':
      // A call of any cost may have started.
      return Number.POSITIVE_INFINITY
    case 'fixed window':
    case 'sliding log':
      return form.windowMs
    case 'sliding window':
      return (form.windowMs * 33) / 32
    case 'slots':
      return 0
    default:
      return form satisfies never
  }
}

/** Queues that are paused at the end, or have no worker that lives. */
function queuesWithoutWorkers(history: History): Set<string> {
  const queues = new Set<string>()
  for (const { asked, ...story } of history.stories.values())
    if (asked.queue !== undefined && acceptedMs({ asked, ...story }) !== undefined) queues.add(asked.queue)
  const state = new Map<string, 'paused' | 'resumed'>()
  for (const fact of history.queues) state.set(fact.queue, fact.state)
  const up = new Map<string, string>()
  for (const { process, queue, state: now } of history.workers) {
    if (now === 'up') up.set(process, queue)
    else up.delete(process)
  }
  const worked = new Set([...up].filter(([process]) => history.diedMs(process) === Number.POSITIVE_INFINITY).map(([, queue]) => queue))
  return new Set([...queues].filter((queue) => !worked.has(queue) || state.get(queue) === 'paused'))
}

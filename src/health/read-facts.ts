import type { Redis } from 'ioredis'
import { NUMBER, numbersAfter } from '../history/point.js'
import { readSeen } from '../history/seen.js'
import { SERIES, type SeriesStore, TOP } from '../history/series.js'
import { MINUTE, SECOND } from '../model/time.js'
import type { CompiledRule } from '../policy/compiled-rule.js'
import type { RuleSpec } from '../policy/rule.js'
import { parseReport } from '../queue/queue-places.js'
import type { Keys } from '../redis/keys.js'
import { repliesTo } from '../redis/replies.js'
import type { HealthFacts, QueueFacts, RefusedBudget, TroubledCall } from './facts.js'
import { isHeld, isOld } from './judge.js'

/** A call that has not failed for so long is none that fails again and again. */
const TROUBLED_MS = 60 * SECOND
/** A budget that has refused nothing in this and the last minute is no cause. */
const REFUSED_MS = 2 * MINUTE
const RATE_MS = 2 * MINUTE
const COUNTED_LINES = 200

export interface FactsParts {
  readonly redis: Redis
  readonly keys: Keys
  readonly series: SeriesStore
  /** The queue of this Tollgate. */
  readonly queue: string
  readonly rules: { readonly specs: readonly RuleSpec[]; readonly rules: readonly CompiledRule[] }
}

/** Reads what the verdict is made of: three round trips, whatever waits. */
export async function readFacts({ redis, keys, series, queue, rules }: FactsParts): Promise<HealthFacts> {
  const first = redis
    .pipeline()
    .get(keys.seen)
    .exists(keys.dispatcher)
    .hgetall(keys.workers)
    .zcard(keys.lines)
    .hgetall(keys.troubled)
    .hgetall(keys.closedQueues)
  const [[seenText, lease, reports, lineCount, failing, closed], nowMs] = await Promise.all([repliesTo(first), series.nowMs()])
  const seen = readSeen(seenText as string | null)
  const workers = Object.entries(reports as Record<string, string>).map(parseReport)
  const names = [queue, ...workers.map((worker) => worker.queue), ...(seen?.lines ?? []).map((line) => line.queue), ...Object.keys(closed as object)]
  const budgets = rules.rules.filter(({ limits }) => limits.some(({ unit }) => unit === 'usd'))
  const slot = Math.floor(nowMs / MINUTE)
  const [queues, callsInLines, [total], [all = [], ...ofBudgets], orgs] = await Promise.all([
    readQueues(
      redis,
      keys,
      [...new Set(names)].filter((name) => name !== '' && !isHeld(name)),
    ),
    isOld({ seen, nowMs }) && (lineCount as number) > 0 ? countCalls(redis, keys) : (seen?.waiting ?? 0),
    series.totals([SERIES.namespace]),
    series.points([SERIES.namespace, ...budgets.map(({ name }) => SERIES.rule(name))], 'm', slot - REFUSED_MS / MINUTE + 1, slot),
    series.top(TOP.spend('org'), 2),
  ])
  const forMs = Math.max(SECOND, RATE_MS - MINUTE + (nowMs % MINUTE))
  const perSecond = (name: string) => (all.reduce((sum, { numbers }) => sum + (numbers.get(name) ?? 0), 0) * SECOND) / forMs
  const refusedBudgets = budgets.flatMap(({ name, limits }, n): RefusedBudget[] => {
    const points = ofBudgets[n] ?? []
    return limits.flatMap(({ name: limit, unit }) => {
      const calls = points
        .map(({ slot, numbers }) => [slot, numbersAfter(numbers, NUMBER.exceededOf).get(limit) ?? 0] as const)
        .filter(([, count]) => count > 0)
      const sum = calls.reduce((total, [, count]) => total + count, 0)
      return unit === 'usd' && sum > 0 ? [{ rule: name, limit, calls: sum, sinceMs: Math.min(...calls.map(([at]) => at)) * MINUTE }] : []
    })
  })
  return {
    nowMs,
    seen,
    dispatched: lease === 1,
    workers,
    queues,
    lineCount: lineCount as number,
    callsInLines,
    arrivingPerSecond: perSecond(NUMBER.arrived),
    startingPerSecond: perSecond(NUMBER.started),
    lastStartMs: total?.numbers.get(NUMBER.lastStart) ?? null,
    hadCalls: total !== undefined || all.some(({ numbers }) => (numbers.get(NUMBER.arrived) ?? 0) > 0),
    troubled: Object.entries(failing as Record<string, string>)
      .flatMap(([id, text]) => troubledCall(id, text))
      .filter(({ atMs }) => nowMs - atMs <= TROUBLED_MS)
      .sort((one, other) => other.times - one.times),
    refusedBudgets,
    severalOrgs: orgs.length > 1 || new Set((seen?.lines ?? []).flatMap(({ who }) => who.map(({ org }) => org))).size > 1,
    specs: rules.specs,
  }
}

async function countCalls(redis: Redis, keys: Keys): Promise<number> {
  const lines = await redis.zrange(keys.lines, '0', String(COUNTED_LINES - 1))
  const pipeline = redis.pipeline()
  for (const line of lines) pipeline.zcard(line)
  return (await repliesTo(pipeline)).reduce<number>((sum, depth) => sum + (depth as number), 0)
}

async function readQueues(redis: Redis, keys: Keys, names: readonly string[]): Promise<QueueFacts[]> {
  const pipeline = redis.pipeline()
  const key = (name: string, part: string) => `${keys.prefix}:${name}:${part}`
  for (const name of names)
    pipeline
      .llen(key(name, 'wait'))
      .llen(key(name, 'paused'))
      .zcard(key(name, 'prioritized'))
      .llen(key(name, 'active'))
      .hexists(key(name, 'meta'), 'paused')
      .lindex(key(name, 'wait'), -1)
      .lindex(key(name, 'paused'), -1)
  const replies = await repliesTo(pipeline)
  const found = names.map((name, n) => {
    const [wait, held, prioritized, active, paused, next, nextHeld] = replies.slice(7 * n, 7 * n + 7) as [
      number,
      number,
      number,
      number,
      number,
      string | null,
      string | null,
    ]
    return { name, waiting: wait + held + prioritized, active, paused: paused === 1, next: next ?? nextHeld }
  })
  const times = redis.pipeline()
  for (const { name, next } of found) times.hget(key(name, next ?? ''), 'timestamp')
  const timestamps = await repliesTo(times)
  return found.map(({ name, waiting, active, paused }, n) => ({
    name,
    waiting,
    active,
    paused,
    oldestMs: timestamps[n] === null ? null : Number(timestamps[n]),
  }))
}

function troubledCall(id: string, text: string): TroubledCall[] {
  try {
    const { atMs, times, agent, org } = JSON.parse(text) as Partial<TroubledCall>
    if (typeof atMs !== 'number' || typeof times !== 'number') return []
    return [{ call: id.slice(id.indexOf('/') + 1), atMs, times, agent: agent ?? '', org }]
  } catch {
    return []
  }
}

import type { LinesPage } from '../gate/waiting.js'
import type { Seen } from '../history/seen.js'
import { DEFAULTS } from '../model/defaults.js'
import type { OutageFigures } from '../outage/outage.js'
import { within } from '../redis/bounded-wait.js'
import type { Health } from './health.js'
import { judge, redisAway } from './judge.js'
import { type FactsParts, readFacts } from './read-facts.js'

/** Whether work flows in the namespace. Never throws: a Redis that does not answer is a verdict, too. */
export async function readHealth(parts: FactsParts, outage: () => Pick<OutageFigures, 'away' | 'awayMs'>): Promise<Health> {
  const away = () => {
    const { awayMs } = outage()
    return redisAway(Date.now(), awayMs === null ? null : Math.floor(Date.now() - awayMs))
  }
  if (outage().away || parts.redis.status !== 'ready') return away()
  try {
    return judge(await within(DEFAULTS.storeTimeoutMs, readFacts(parts)))
  } catch {
    return away()
  }
}

/** The same of a process without a Redis: of the calls that wait in its `acquire`. */
export function healthAlone({ lines }: LinesPage, parts: Pick<FactsParts, 'rules'>, nowMs: number, lastStartMs: number | null): Health {
  const seenLines = lines.map(({ depth, oldestMs, head, headEtaMs, binding, waitsFor }): Seen['lines'][number] => ({
    rule: binding?.rule ?? '~',
    scopeValue: binding?.scopeValue ?? '',
    limit: binding?.limit ?? null,
    depth,
    oldestMs,
    sinceMs: nowMs - (oldestMs ?? 0),
    who: [],
    kind: binding?.kind ?? null,
    waitsFor,
    head,
    queue: '',
    agent: binding?.scopeValue ?? '',
    etaMs: headEtaMs,
    binds: null,
  }))
  const waiting = seenLines.reduce((sum, { depth }) => sum + depth, 0)
  return judge({
    nowMs,
    seen: { atMs: nowMs, waiting, lineCount: seenLines.length, lines: seenLines, limits: {} },
    dispatched: true,
    workers: [],
    queues: [],
    lineCount: seenLines.length,
    callsInLines: waiting,
    arrivingPerSecond: null,
    startingPerSecond: null,
    lastStartMs,
    hadCalls: lastStartMs !== null,
    troubled: [],
    refusedBudgets: [],
    severalOrgs: false,
    specs: parts.rules.specs,
  })
}

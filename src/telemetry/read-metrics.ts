import type { UsageFigures } from '../admission/usage-reader.js'
import type { OutageFigures } from '../outage/outage.js'
import type { LedgerFigures } from '../store/store.js'
import type { CallMetrics } from './call-metrics.js'
import type { ReadMetric } from './metric-table.js'
import type { MetricReading, ReadMetrics } from './metrics.js'

/** A line, as the list of lines shows it. */
export interface LineFigures {
  readonly line: string
  readonly depth: number
  readonly oldestMs: number | null
  readonly binding: { readonly rule: string } | null
}

interface SeenAgent {
  readonly agent: string
  readonly factor: number
  readonly blockedMs: number
}

/** Where the figures come from that are read when a registry is asked. */
export interface MetricSources {
  outage(): OutageFigures
  usage(): UsageFigures
  ledger(): Promise<LedgerFigures>
  upstream(): Promise<readonly SeenAgent[]>
  overrides(): number
  pauses(): number
  /** Whether this process dispatches: it alone reads the lines, so that they are read once for all processes. */
  dispatches(): boolean
  lines(): Promise<readonly LineFigures[]>
}

/** For how long what was read of Redis is told again. */
const KEPT_MS = 5000

/** The rule in whose line calls wait; of a line of no rule, such as that of a queue without workers, the name before the slash. */
export function ruleOfLine({ line, binding }: LineFigures): string {
  return binding?.rule ?? line.split('/')[0] ?? line
}

const single = (value: number): readonly MetricReading[] => [{ labels: [], value }]

function merged<One>(list: readonly One[], label: (one: One) => string, value: (one: One) => number, how: (one: number, other: number) => number) {
  const values = new Map<string, number>()
  for (const one of list) {
    const key = label(one)
    const known = values.get(key)
    values.set(key, known === undefined ? value(one) : how(known, value(one)))
  }
  return [...values].map(([key, sum]): MetricReading => ({ labels: [key], value: sum }))
}

/** What Redis does not answer is left out of a scrape, and the scrape goes on. */
async function orNothing<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read()
  } catch {
    return undefined
  }
}

async function readShared(sources: MetricSources): Promise<Partial<Record<ReadMetric, readonly MetricReading[]>>> {
  const [ledger, agents, lines] = await Promise.all([
    orNothing(() => sources.ledger()),
    orNothing(() => sources.upstream()),
    sources.dispatches() ? orNothing(() => sources.lines()) : undefined,
  ])
  return {
    ...(ledger && {
      ledgerOpen: single(ledger.open),
      ledgerSettled: single(ledger.settled),
      ledgerReleased: single(ledger.released),
      ledgerExpired: single(ledger.expired),
    }),
    ...(agents && {
      factor: merged(
        agents,
        ({ agent }) => agent,
        ({ factor }) => factor,
        Math.min,
      ),
      blocked: merged(
        agents,
        ({ agent }) => agent,
        ({ blockedMs }) => blockedMs / 1000,
        Math.max,
      ),
    }),
    ...(lines && {
      lineDepth: merged(
        lines,
        ruleOfLine,
        ({ depth }) => depth,
        (one, other) => one + other,
      ),
      lineOldest: merged(lines, ruleOfLine, ({ oldestMs }) => (oldestMs ?? 0) / 1000, Math.max),
    }),
  }
}

export function metricReader(metrics: CallMetrics, sources: MetricSources): ReadMetrics {
  let shared: ReturnType<typeof readShared> | undefined
  let readMs = 0
  return async () => {
    const nowMs = performance.now()
    if (shared === undefined || nowMs - readMs > KEPT_MS) {
      readMs = nowMs
      shared = readShared(sources)
    }
    const { away, outages, unchecked, metered, refused, owed } = sources.outage()
    const { unreadable, capped } = sources.usage()
    return {
      ...(await shared),
      away: single(away ? 1 : 0),
      outages: single(outages),
      unchecked: single(unchecked),
      metered: single(metered),
      refusedAway: single(refused),
      owed: single(owed),
      unreadable: single(unreadable),
      capped: single(capped),
      utilisation: metrics.utilisation().map(({ rule, limit, part }) => ({ labels: [rule, limit], value: part })),
      overrides: single(sources.overrides()),
      pauses: single(sources.pauses()),
      dispatches: single(sources.dispatches() ? 1 : 0),
    }
  }
}

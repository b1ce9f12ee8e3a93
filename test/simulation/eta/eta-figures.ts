import { loadProgram } from '../fleet/program.js'
import { runFleet } from '../fleet/run-fleet.js'
import type { Fact } from '../oracles/facts.js'
import type { RealServer } from '../world/server.js'
import { ETA_FLEETS } from './eta-fleets.js'

/** The lookahead: the bar of the ranges. */
const ALLOWED_MS = 60

export interface EtaFigures {
  readonly name: string
  readonly calls: number
  /** Share of calls that started when they were told, within the lookahead. */
  readonly onTime: number
  /** Share of calls that started then, or within their range. */
  readonly inRange: number
  /** The median width of the ranges, as a part of the wait. */
  readonly width: number
  readonly worstMs: number
}

export async function etaFigures(program: string, server: RealServer, name?: string): Promise<EtaFigures[]> {
  const loaded = await loadProgram(program)
  const figures: EtaFigures[] = []
  for (const { name: of, fleet } of ETA_FLEETS.filter((one) => name === undefined || one.name.includes(name))) {
    const { facts } = await runFleet(loaded, server, fleet)
    figures.push(figuresOf(of, facts))
  }
  return figures
}

function figuresOf(name: string, facts: readonly Fact[]): EtaFigures {
  const told = new Map<string, { atMs: number; etaMs: number | null; etaMaxMs: number | null }>()
  const started = new Map<string, number>()
  for (const fact of facts) {
    if (fact.fact === 'answered' && fact.etaMs !== undefined)
      told.set(fact.call, { atMs: fact.atMs, etaMs: fact.etaMs, etaMaxMs: fact.etaMaxMs === undefined ? fact.etaMs : fact.etaMaxMs })
    if (fact.fact === 'started' && !started.has(fact.call)) started.set(fact.call, fact.atMs)
  }
  let calls = 0
  let onTime = 0
  let inRange = 0
  let worstMs = 0
  const widths: number[] = []
  for (const [call, { atMs, etaMs, etaMaxMs }] of told) {
    const startMs = started.get(call)
    if (startMs === undefined) continue
    calls++
    if (etaMs === null) continue
    const offMs = startMs - atMs - etaMs
    if (Math.abs(offMs) <= ALLOWED_MS) onTime++
    const later = startMs - atMs - (etaMaxMs ?? Number.POSITIVE_INFINITY)
    if (offMs >= -ALLOWED_MS && later <= ALLOWED_MS) inRange++
    else worstMs = Math.abs(offMs) > Math.abs(worstMs) ? offMs : worstMs
    widths.push(((etaMaxMs ?? Number.POSITIVE_INFINITY) - etaMs) / Math.max(1, etaMs))
  }
  widths.sort((a, b) => a - b)
  return { name, calls, onTime: onTime / calls, inRange: inRange / calls, width: widths[widths.length >> 1] ?? 0, worstMs }
}

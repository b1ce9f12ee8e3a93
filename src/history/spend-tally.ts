import type { Call } from '../model/call.js'
import { SPENDERS, type Spender } from '../model/spender.js'
import { addNumber, NUMBER, type Numbers } from './point.js'
import { type HistoryBatch, SERIES, type SeriesEntry, TOP, TOP_SIZE, type TopEntry } from './series.js'
import { NAMES_AT_MOST } from './tally.js'

/** What calls cost, by org, team, user and model. It is flushed less often than a `Tally`: there may be many users. */
export class SpendTally {
  private readonly spenders = new Map<Spender, Map<string, Numbers>>()

  ended(call: Call, estimatedTokens: number, tokens: number, usd: number): void {
    for (const by of SPENDERS) {
      const name = call[by]
      if (name === undefined) continue
      let ofKind = this.spenders.get(by)
      if (ofKind === undefined) {
        ofKind = new Map()
        this.spenders.set(by, ofKind)
      }
      let numbers = ofKind.get(name)
      if (numbers === undefined) {
        if (ofKind.size >= NAMES_AT_MOST) continue
        numbers = new Map()
        ofKind.set(name, numbers)
      }
      addNumber(numbers, NUMBER.calls, 1)
      if (estimatedTokens > 0) addNumber(numbers, NUMBER.estimatedTokens, estimatedTokens)
      if (tokens > 0) addNumber(numbers, NUMBER.tokens, tokens)
      if (usd > 0) addNumber(numbers, NUMBER.usd, usd)
      if (tokens > estimatedTokens) addNumber(numbers, NUMBER.aboveEstimate, 1)
    }
  }

  batch(): HistoryBatch {
    const series: SeriesEntry[] = []
    const tops: TopEntry[] = []
    for (const [by, ofKind] of this.spenders) {
      const counts = new Map<string, number>()
      for (const [name, numbers] of ofKind) {
        series.push({ name: SERIES.spend(by, name), resolutions: ['d'], numbers })
        // Ranked by both: a dollar is worth a million tokens.
        counts.set(name, (numbers.get(NUMBER.usd) ?? 0) * 1e6 + (numbers.get(NUMBER.tokens) ?? 0) + (numbers.get(NUMBER.calls) ?? 0))
      }
      tops.push({ list: TOP.spend(by), size: TOP_SIZE.spend, counts, seriesOf: (name) => SERIES.spend(by, name) })
    }
    return { series, tops }
  }
}

import type { Call } from '../model/call.js'
import { SPENDERS, type Spender } from '../model/spender.js'
import { NUMBER, type Numbers } from './point.js'
import { type HistoryBatch, SERIES, type SeriesEntry, TOP, TOP_SIZE, type TopEntry } from './series.js'
import { NAMES_AT_MOST } from './tally.js'

/** What one of them spent, in fields: this stands in the way of calls. */
class Spent {
  calls = 0
  estimatedTokens = 0
  tokens = 0
  usd = 0
  aboveEstimate = 0

  numbers(): Numbers {
    const numbers: Numbers = new Map()
    for (const name of ['calls', 'estimatedTokens', 'tokens', 'usd', 'aboveEstimate'] as const) if (this[name] > 0) numbers.set(NUMBER[name], this[name])
    return numbers
  }
}

/** What calls cost, by org, team, user and model. It is flushed less often than a `Tally`: there may be many users. */
export class SpendTally {
  private readonly spenders = new Map<Spender, Map<string, Spent>>()

  ended(call: Call, estimatedTokens: number, tokens: number, usd: number): void {
    for (const by of SPENDERS) {
      const name = call[by]
      if (name === undefined) continue
      let ofKind = this.spenders.get(by)
      if (ofKind === undefined) {
        ofKind = new Map()
        this.spenders.set(by, ofKind)
      }
      let spent = ofKind.get(name)
      if (spent === undefined) {
        if (ofKind.size >= NAMES_AT_MOST) continue
        spent = new Spent()
        ofKind.set(name, spent)
      }
      spent.calls++
      spent.estimatedTokens += estimatedTokens
      spent.tokens += tokens
      spent.usd += usd
      if (tokens > estimatedTokens) spent.aboveEstimate++
    }
  }

  batch(): HistoryBatch {
    const series: SeriesEntry[] = []
    const tops: TopEntry[] = []
    for (const [by, ofKind] of this.spenders) {
      const counts = new Map<string, number>()
      for (const [name, spent] of ofKind) {
        series.push({ name: SERIES.spend(by, name), resolutions: ['d'], numbers: spent.numbers() })
        // Ranked by both: a dollar is worth a million tokens.
        counts.set(name, spent.usd * 1e6 + spent.tokens + spent.calls)
      }
      tops.push({ list: TOP.spend(by), size: TOP_SIZE.spend, counts, seriesOf: (name) => SERIES.spend(by, name) })
    }
    return { series, tops }
  }
}

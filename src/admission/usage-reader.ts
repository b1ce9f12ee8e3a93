import type { Logger } from 'pino'
import { type ActualCosts, COST_UNITS } from '../model/cost.js'
import { DEFAULTS } from '../model/defaults.js'
import { actualCosts, bringsUsage, type CallUsage, usageOfResult } from '../pricing/usage.js'
import { fieldName } from '../validation/faults.js'
import type { CallRequest } from './request.js'
import type { Resolver } from './resolver.js'

/** How far a reported usage is believed: up to the larger of the two. */
export interface BelievedUsage {
  /** Times the estimate; default 100. */
  readonly timesEstimate?: number | undefined
  /** Times the largest limit that the call is charged to; default 10. */
  readonly timesLimit?: number | undefined
}

/** What agents reported in this process that was not taken as it came. */
export interface UsageFigures {
  /** Usages that could not be read: the estimates stay. */
  readonly unreadable: number
  /** Amounts that were capped. */
  readonly capped: number
}

/** The most agents whose faults are remembered as logged. */
const SAID_AT_MOST = 1000

/** Reads what calls have cost. An agent that reports nonsense neither closes an account nor goes unnoticed: it is counted, and logged once. */
export class UsageReader {
  readonly figures = { unreadable: 0, capped: 0 }
  private readonly said = new Set<string>()

  constructor(
    private readonly resolver: Resolver,
    private readonly log: Pick<Logger, 'warn'>,
    private readonly believed: BelievedUsage = {},
  ) {}

  /** The usage in what a handler returned or threw; undefined where there is none. Never throws. */
  usageIn(agent: string, value: unknown): CallUsage | undefined {
    let brought = true
    try {
      const usage = usageOfResult(value)
      if (usage !== undefined) return usage
      brought = bringsUsage(value)
    } catch {
      // A getter that throws.
    }
    if (brought) {
      this.figures.unreadable++
      this.say('unreadable', agent, {}, 'the usage that an agent reported cannot be read; its calls cost what was estimated')
    }
    return undefined
  }

  /** What a call has cost, as far as it is believed. */
  actual(request: Pick<CallRequest, 'call' | 'meters' | 'costs'>, usage: CallUsage | undefined): ActualCosts {
    const { call, costs, meters } = request
    const actual = actualCosts(usage, call, this.resolver.rules.prices)
    const { timesEstimate = DEFAULTS.timesEstimate, timesLimit = DEFAULTS.timesLimit } = this.believed
    let capped: Record<string, number> | undefined
    for (const unit of COST_UNITS) {
      const amount = actual[unit]
      if (amount === undefined || amount <= costs[unit]) continue
      const limits = meters.flatMap(({ rule }) => rule.limits.flatMap((limit) => (limit.unit === unit ? [Math.max(limit.limit, limit.capacity)] : [])))
      const most = Math.max(costs[unit] * timesEstimate, Math.max(...limits) * timesLimit)
      if (limits.length === 0 || amount <= most) continue
      capped = { ...capped, [unit]: most }
      this.figures.capped++
      this.say('capped', call.agent, { unit, reported: amount, counted: most }, 'an agent reported a usage that is not believed; it was capped')
    }
    return capped === undefined ? actual : { ...actual, ...capped }
  }

  private say(what: keyof UsageFigures, agent: string, details: object, message: string): void {
    const key = `${what} ${agent}`
    if (this.said.has(key)) return
    if (this.said.size >= SAID_AT_MOST) this.said.clear()
    this.said.add(key)
    this.log.warn({ agent: fieldName([agent]), ...details }, message)
  }
}

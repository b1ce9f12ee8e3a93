import { z } from 'zod'
import type { AlgorithmRef } from '../limits/algorithms.js'
import { algorithmRef, burstMultiplier } from '../limits/limit.js'
import type { Strategy } from '../model/call.js'
import { strategySchema } from '../validation/call.js'

/** What the rules of a file have where they name nothing else. */
export interface RuleDefaults {
  algorithm?: AlgorithmRef | undefined
  strategy?: Strategy | undefined
  /** Of token buckets. */
  burstMultiplier?: number | undefined
}

export const ruleDefaultsSchema = z.strictObject({
  algorithm: algorithmRef.optional(),
  strategy: strategySchema.optional(),
  burstMultiplier: burstMultiplier.optional(),
})

type RawFields = Readonly<Record<string, unknown>>

function isObject(value: unknown): value is RawFields {
  return value !== null && typeof value === 'object' && !Array.isArray(value)
}

function mapped(list: unknown, fill: (one: RawFields) => RawFields): unknown {
  return Array.isArray(list) ? list.map((one: unknown) => (isObject(one) ? fill(one) : one)) : list
}

/** A limit that says its burst is a token bucket already; a concurrency has no algorithm. */
function filledLimit(limit: RawFields, { algorithm, burstMultiplier: times }: RuleDefaults): RawFields {
  if (limit['concurrency'] !== undefined) return limit
  const hasBurst = limit['burst'] !== undefined || limit['burstMultiplier'] !== undefined
  const filled = limit['algorithm'] !== undefined || hasBurst || algorithm === undefined ? limit : { ...limit, algorithm }
  const isTokenBucket = (filled['algorithm'] ?? 'token_bucket') === 'token_bucket'
  return hasBurst || !isTokenBucket || times === undefined ? filled : { ...filled, burstMultiplier: times }
}

/** A rules file, not checked yet, whose rules name what its defaults say. Defaults with a fault fill in nothing: the check of the file names it. */
export function withRuleDefaults(input: unknown): unknown {
  if (!isObject(input) || input['defaults'] === undefined) return input
  const parsed = ruleDefaultsSchema.safeParse(input['defaults'])
  if (!parsed.success) return input
  const defaults = parsed.data
  const rules = mapped(input['rules'], (rule) => {
    const limits = Object.fromEntries(
      ['limits', 'degraded'].flatMap((list) => (rule[list] === undefined ? [] : [[list, mapped(rule[list], (limit) => filledLimit(limit, defaults))]])),
    )
    return { ...rule, ...(rule['strategy'] === undefined && defaults.strategy !== undefined ? { strategy: defaults.strategy } : {}), ...limits }
  })
  return { ...input, rules }
}

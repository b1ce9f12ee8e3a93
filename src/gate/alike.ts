import type { CompiledRule } from '../rules/compile.js'
import type { Asked } from './asked.js'

/** Whether two rules of one name limit alike at a time. */
function same(one: CompiledRule, other: CompiledRule, atMs: number): boolean {
  return one === other || one.encoded(atMs) === other.encoded(atMs)
}

/**
 * Cuts calls that would travel together into runs, in their order, in which no rule stands in
 * two versions: a batch names each meter once, with the limits of one of them. Rules change at
 * run time, and limiters of one name may have different limits.
 */
export function alike<One extends Asked>(asked: readonly One[], atMs: number): (readonly One[])[] {
  // Calls that were resolved under the same rules share this list: nearly always all of them.
  const counted = asked[0]?.demand.counted
  if (asked.every((one) => one.demand.counted === counted)) return [asked]
  const runs: One[][] = [[]]
  let rules = new Map<string, CompiledRule>()
  for (const one of asked) {
    const named = one.demand.parts.map(({ rule }) => rule)
    if (named.some((rule) => !same(rules.get(rule.name) ?? rule, rule, atMs))) {
      runs.push([])
      rules = new Map()
    }
    for (const rule of named) rules.set(rule.name, rule)
    ;(runs.at(-1) as One[]).push(one)
  }
  return runs
}

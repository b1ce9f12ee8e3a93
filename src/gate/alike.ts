import type { CompiledRule } from '../rules/compile.js'
import type { Asked } from './asked.js'
import { BLOCK_NAME } from './block.js'
import type { DemandPart } from './demand.js'

/** Whether two rules of one name limit alike at a time. */
function same(one: CompiledRule, other: CompiledRule, atMs: number): boolean {
  return one === other || one.encoded(atMs) === other.encoded(atMs)
}

/** Blocks differ from agent to agent: each is a rule of its own. */
function nameOf({ rule, value }: DemandPart): string {
  return rule.name === BLOCK_NAME ? `${rule.name}/${value}` : rule.name
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
    if (one.demand.parts.some((part) => !same(rules.get(nameOf(part)) ?? part.rule, part.rule, atMs))) {
      runs.push([])
      rules = new Map()
    }
    for (const part of one.demand.parts) rules.set(nameOf(part), part.rule)
    ;(runs.at(-1) as One[]).push(one)
  }
  return runs
}

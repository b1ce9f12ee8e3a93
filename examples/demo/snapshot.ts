import type { Explanation, Tollgate, Usage } from '../../src/index.js'
import { AGENT } from './account.js'
import type { Plan } from './plan.js'
import type { Progress } from './progress.js'

/** The waiting calls of an organisation. */
export interface Line {
  readonly org: string
  readonly length: number
  /** Of the last call: the ms until its estimated start. */
  readonly etaMs: number | null
  /** Of the last call: the limit that it waits for. */
  readonly waitsFor: string | null
}

/** The state of limits, lines and calls at one moment. */
export interface Snapshot {
  readonly limits: readonly Usage[]
  readonly lines: readonly Line[]
  readonly sent: number
  readonly started: number
  readonly finished: number
  readonly total: number
}

async function explained(tollgate: Tollgate, id: string): Promise<Explanation | null> {
  // The call may have ended since.
  return tollgate.explain(id).catch(() => null)
}

async function lineOf(org: string, tollgate: Tollgate, progress: Progress): Promise<Line> {
  const waiting = progress.waiting(org)
  const last = waiting.at(-1)
  const explanation = last === undefined ? null : await explained(tollgate, last)
  const binding = explanation?.binding ?? null
  return { org, length: waiting.length, etaMs: explanation?.etaMs ?? null, waitsFor: binding === null ? null : `${binding.rule} ${binding.limit}`.trim() }
}

/** Peeks at every limit, which charges nothing. */
export async function takeSnapshot(plan: Plan, tollgate: Tollgate, progress: Progress): Promise<Snapshot> {
  const answers = await Promise.all(plan.orgs.map((org) => tollgate.gate.peek({ agent: AGENT, org, cost: { tokens: 0 } })))
  // Limits that organisations share come with each of them.
  const limits = new Map(answers.flatMap(({ usage }) => usage.map((one) => [`${one.rule} ${one.limit} ${one.scopeValue}`, one] as const)))
  return {
    limits: [...limits.values()],
    lines: await Promise.all(plan.orgs.map((org) => lineOf(org, tollgate, progress))),
    sent: progress.sentCount,
    started: progress.started,
    finished: progress.finished,
    total: progress.total,
  }
}

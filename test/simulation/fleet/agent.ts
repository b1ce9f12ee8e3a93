import type { Call, CallContext } from '../../../src/index.js'
import type { FactCosts } from '../oracles/facts.js'
import type { SimProcess } from '../world/process.js'
import type { FleetCall } from './calls.js'
import { noteCharged } from './charges.js'
import { type Fleet, sleep } from './fleet.js'

/** What a run cost its agent, in the units of facts. */
function used(one: FleetCall, part: number): FactCosts {
  return { ...one.costs, tokens: (one.costs.tokens ?? 0) * part, usd: (one.costs.usd ?? 0) * part }
}

function usageOf(actual: FactCosts) {
  return { tokens: actual.tokens ?? 0, usd: actual.usd ?? 0 }
}

/** The handler of a worker: the agent as the worker sees it. It notes what the agent saw, and answers, fails or refuses as the fleet says. */
export function agentOf(fleet: Fleet, process: SimProcess) {
  return async (call: Call, context: CallContext): Promise<unknown> => {
    const { name } = call.payload as { name: string }
    const one = fleet.calls.get(name)
    if (one === undefined) throw new Error(`a call ${name} that no app asked for`)
    const run = fleet.nextRun()
    const { atMs } = context.decision
    one.id = context.id
    noteCharged(fleet, process, { call: name, run, atMs, degraded: context.degraded })
    fleet.note({ fact: 'started', atMs: fleet.nowMs, call: name, run, by: process.name, attempt: context.attempt })
    fleet.world.note(process.name, `the agent gets ${name} (run ${run}, attempt ${context.attempt})`)
    const end = (how: 'done' | 'failed' | 'sent back', actual: FactCosts, reported: boolean, more: { retryAfterMs?: number } = {}) => {
      fleet.note({ fact: 'ended', atMs: fleet.nowMs, call: name, run, how, actual, reported, ...more })
      fleet.world.note(process.name, `the agent ends ${name}: ${how}`)
    }
    const agent = fleet.agents.get(call.agent)
    if (agent === undefined) throw new Error(`an agent ${call.agent} that the fleet does not have`)
    const { refusals } = agent
    if (one.poisoned || refusals.left > 0 || refusals.untilMs > fleet.nowMs) {
      if (refusals.left > 0) refusals.left--
      await sleep(5)
      end('sent back', {}, false, { retryAfterMs: refusals.retryAfterMs })
      throw new fleet.program.UpstreamLimited({ retryAfterMs: refusals.retryAfterMs })
    }
    const part = agent.odd.untilMs > fleet.nowMs ? agent.odd.factor : one.usedPart
    const actual = used(one, part)
    const { aborted, told } = await work(fleet, one, context, actual)
    if (aborted || context.attempt <= one.failures) {
      // What it has said in part is the cost of a call that breaks off; else its estimate stands.
      end('failed', told ?? one.costs, told !== undefined)
      throw aborted ? context.signal.reason : new Error('the agent fails')
    }
    end('done', actual, true)
    return { name, usage: usageOf(actual) }
  }
}

interface Worked {
  /** Whether the call was aborted, and its handler ended for that. */
  readonly aborted: boolean
  /** The usage that was reported in parts. */
  readonly told?: FactCosts
}

/** The agent's time. */
async function work(fleet: Fleet, one: FleetCall, context: CallContext, actual: FactCosts): Promise<Worked> {
  if (fleet.has('parts') && one.ms > 100) {
    await sleep(one.ms / 2)
    const told: FactCosts = { ...actual, tokens: (actual.tokens ?? 0) / 2, usd: (actual.usd ?? 0) / 2 }
    await context.settlePart(usageOf(told))
    await sleep(one.ms / 2)
    return { aborted: false, told }
  }
  if (!one.heedsAbort) {
    await sleep(one.ms)
    return { aborted: false }
  }
  const { signal } = context
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve({ aborted: true })
      return
    }
    const timer = globalThis.setTimeout(() => resolve({ aborted: false }), one.ms)
    const aborted = () => {
      clearTimeout(timer)
      resolve({ aborted: true })
    }
    signal.addEventListener('abort', aborted, { once: true })
  })
}

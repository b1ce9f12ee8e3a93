import { EPOCH_MS } from '../world/server.js'
import { passTime } from './actions/time.js'
import type { Agent } from './agent.js'
import type { Model } from './model.js'
import { SLOT_LEASE_MS } from './scope.js'
import type { Setting } from './setting.js'
import { modelOf, type State } from './state.js'

/** Keys that only calls on their way have. The ledgers of ended calls, meters that still count and the figures stay. */
const ON_THEIR_WAY = /\/(l|s)\/|\/(passes|lines|deadlines|queued)$|\/c\/calls\//

/** After all work and one lease more: nothing is claimed, held or kept of calls, and each of them has ended one way. */
export async function checkQuiet(setting: Setting, agent: Agent, state: State): Promise<string[]> {
  const model = modelOf(state)
  setting.at(state.redis, model.atMs)
  await passTime(setting, agent, model, model.atMs + SLOT_LEASE_MS + 1000)
  const keys = ((await setting.states.read('KEYS', '*')) as string[]).sort()
  return [
    ...new Set([
      ...leftKeys(keys),
      ...(await leftRoom(setting, model)),
      ...(await wrongWindows(setting, agent, model)),
      ...(await wrongSums(setting, model, keys)),
      ...wrongEnds(setting, model),
    ]),
  ]
}

function leftKeys(keys: readonly string[]): string[] {
  return keys.filter((key) => ON_THEIR_WAY.test(key)).map((key) => `left: the key ${key.replace(/^\{.*?\}/, '').replace(/c\d+$/, 'c*')}`)
}

async function leftRoom(setting: Setting, model: Model): Promise<string[]> {
  const reports: string[] = []
  for (const [rules, client] of setting.clients.entries()) {
    for (const call of model.calls.keys()) {
      const [decision] = await client.peek([setting.request(call, rules)])
      for (const { rule, limit, claimed, used } of decision?.usage ?? []) {
        if (claimed > 0) reports.push(`left: a claim of ${rule}`)
        if (used > 0 && limit === 'concurrency') reports.push(`left: a slot of ${rule}`)
      }
    }
  }
  return reports
}

/** Where every run was settled, a window that is not over has used what its runs really cost. */
async function wrongWindows(setting: Setting, agent: Agent, model: Model): Promise<string[]> {
  const { opened, settled, released } = model.ledger
  if (opened !== settled + released) return []
  const reports: string[] = []
  for (const limit of setting.scope.rates.filter(({ form }) => form.kind === 'fixed window')) {
    for (const call of model.calls.keys()) {
      const expected = agent.used(limit, model.charges, agent.keyOf(limit, call), model.atMs)
      const [decision] = await setting.client(model.rules.inForce).peek([setting.request(call, model.rules.inForce)])
      const used = decision?.usage.find(({ rule }) => rule === limit.name)?.used
      if (used !== expected) reports.push(`sums: ${limit.name} has used ${used}, and its runs have cost ${expected}`)
    }
  }
  return reports
}

/** The ledger's sums against the starts and ends that there were. */
async function wrongSums(setting: Setting, { ledger }: Model, keys: readonly string[]): Promise<string[]> {
  const fields = (await setting.states.read('HGETALL', setting.keys.figures)) as string[]
  const sums = new Map<string, number>()
  for (let at = 0; at < fields.length; at += 2) {
    const name = (fields[at] as string).replace(/:.*/, '')
    sums.set(name, (sums.get(name) ?? 0) + Number(fields[at + 1]))
  }
  const expected = { open: ledger.opened - ledger.settled - ledger.released, settled: ledger.settled, released: ledger.released }
  const reports = Object.entries(expected).flatMap(([name, sum]) =>
    (sums.get(name) ?? 0) === sum ? [] : [`sums: ${sum} entries are ${name}, and the ledger says ${sums.get(name) ?? 0}`],
  )
  const entries = keys.filter((key) => key.includes('/g/')).length
  if (entries !== expected.open) reports.push(`sums: ${expected.open} entries are open, and ${entries} are kept`)
  return reports
}

function wrongEnds({ scope }: Setting, { calls, jobs }: Model): string[] {
  return calls.flatMap(({ state, cancelled }, call) => {
    const job = jobs[call]?.state
    if (state !== 'added' || job === 'done' || job === 'removed') return []
    const mayFail = cancelled === true || scope.calls[call]?.maxWaitMs !== undefined
    return job === 'failed' && mayFail ? [] : [`lost: the job of a call is ${job} at the end`]
  })
}

/** The score of the first member of a sorted set, as ms since the beginning. */
export function scoreMs(first: unknown): number[] {
  const score = Array.isArray(first) && Array.isArray(first[0]) ? Number(first[0][1]) : Number.NaN
  return Number.isNaN(score) ? [] : [score - EPOCH_MS]
}

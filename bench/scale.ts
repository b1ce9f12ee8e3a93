import { seededRandom } from '../examples/sample-agent/random.js'
import type { RuleSpec, Tollgate } from '../src/index.js'
import { type Check, compare, contender, perSecond, ROUNDS } from './lib/compare.js'
import { atLeast, type Figure } from './lib/measure.js'
import { inNamespaces, openHere } from './lib/namespace.js'

const VALUES = [10, 1000, 1_000_000]
const LINES = [0, 1000, 100_000]
const USERS_BESIDE_LINES = 1000
const VALUES_NAMESPACE = 'bench-scale-values'
const lineNamespace = (calls: number) => `bench-scale-line-${calls}`
const CREATED_AT_ONCE = 1000
const ENQUEUED_AT_ONCE = 5000
const BAR = 0.85

/**
 * A bucket that holds everything that the benchmark takes, and refills so slowly that its key
 * stays: the key of a bucket that is full again expires, and a million would never be there.
 */
const RULES: RuleSpec[] = [
  { name: 'user', scope: 'user', match: { agents: ['roomy'] }, limits: [{ requests: 1, per: 'day', burst: 1e9 }] },
  { name: 'crowd', scope: 'agent', match: { agents: ['crowded'] }, limits: [{ requests: 1, per: 'day' }] },
]

/** Whether the rate of checks depends on the number of scope values, or on the number of calls in line at another meter. */
export async function scale(redis: string): Promise<Figure[]> {
  return [await inNamespaces(redis, [VALUES_NAMESPACE], () => byValues(redis)), await inNamespaces(redis, LINES.map(lineNamespace), () => byLines(redis))]
}

async function admit(tollgate: Tollgate, user: number): Promise<void> {
  const grant = await tollgate.gate.admit({ agent: 'roomy', user: `u${user}` })
  if (!grant.allowed) throw new Error('the benchmark reached its limit')
}

/** Checks of users drawn at random, in the same order in every run. */
function drawn(tollgate: Tollgate, users: number): Check {
  const random = seededRandom(1)
  return () => admit(tollgate, Math.floor(random() * users))
}

/**
 * All values exist throughout, and each contender draws from the first of them: so the sizes
 * take turns, and a disturbance of the machine meets all of them. With 10 values the checks of
 * one batch share meters, which is less work than with any larger number.
 */
async function byValues(redis: string): Promise<Figure> {
  const tollgate = await openHere({ redis, namespace: VALUES_NAMESPACE, rules: RULES })
  for (let from = 0; from < Math.max(...VALUES); from += CREATED_AT_ONCE) {
    await Promise.all(Array.from({ length: CREATED_AT_ONCE }, (_, index) => admit(tollgate, from + index)))
  }
  const rates = await compare(Object.fromEntries(VALUES.map((users) => [users.toLocaleString('en'), contender(drawn(tollgate, users))])))
  return figure(`checks at ${list(Object.keys(rates))} scope values: slowest against fastest`, rates)
}

/** One namespace per length of line, each with the same checks beside it. No worker and no dispatcher runs: the lines stay as they are. */
async function byLines(redis: string): Promise<Figure> {
  const tollgates: Tollgate[] = []
  for (const calls of LINES) {
    const tollgate = await openHere({ redis, namespace: lineNamespace(calls), rules: RULES })
    tollgates.push(tollgate)
    // One more: the first call has room.
    await standInLine(tollgate, calls === 0 ? 0 : calls + 1)
  }
  const rates = await compare(
    Object.fromEntries(
      tollgates.map((tollgate, index) => [(LINES[index] as number).toLocaleString('en'), contender(drawn(tollgate, USERS_BESIDE_LINES))] as const),
    ),
  )
  return figure(`checks beside ${list(Object.keys(rates))} calls in line: slowest against fastest`, rates)
}

async function standInLine(tollgate: Tollgate, calls: number): Promise<void> {
  let waiting = 0
  for (let from = 0; from < calls; from += ENQUEUED_AT_ONCE) {
    const tickets = await tollgate.enqueueMany(Array.from({ length: Math.min(ENQUEUED_AT_ONCE, calls - from) }, () => ({ agent: 'crowded' })))
    waiting += tickets.filter(({ decision }) => decision?.outcome === 'wait').length
  }
  if (waiting !== Math.max(0, calls - 1)) throw new Error(`${waiting} of ${calls} calls stand in line`)
}

const list = (names: readonly string[]) => `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`

function figure(what: string, rates: Readonly<Record<string, number>>): Figure {
  const of = Object.values(rates)
  const detail = Object.entries(rates).map(([size, rate]) => `${perSecond(rate)} a second at ${size}`)
  return atLeast(what, Math.min(...of) / Math.max(...of), BAR, `${detail.join(', ')}, medians of ${ROUNDS}`)
}

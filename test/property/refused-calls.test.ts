import { expect, test } from 'vitest'
import { newNamespace } from '../support/namespace.js'
import { givenScriptClient, T0 } from '../support/script-client.js'
import { SimulatedQueue } from '../support/simulated-queue.js'

const PER_SECOND = 20
const RULES = [{ name: 'account', scope: 'agent', limits: [{ requests: PER_SECOND, per: 'second', burst: 5 }] }]
const MINUTE = 60_000

/** A backlog of calls to one agent, of which it refuses some. */
async function backlog(calls: number, refuses: (place: number, nowMs: number) => number | undefined) {
  const namespace = newNamespace()
  const { scriptClient, clock } = givenScriptClient(namespace, RULES)
  const placeOf = (id: string) => Number(id.split('/c')[1])
  const queue = new SimulatedQueue({
    namespace,
    scriptClient,
    clock,
    latencyMs: () => 5,
    runMs: 40,
    refuses: (id, nowMs) => refuses(placeOf(id), nowMs),
  })
  await queue.enqueue(Array.from({ length: calls }, (_, place) => ({ id: `c${place}`, call: { agent: 'llm' } })))
  const startsOf = (isMeant: (place: number) => boolean) => queue.starts.filter(({ id }) => isMeant(placeOf(id))).map(({ atMs }) => atMs - T0)
  const state = async () => (await scriptClient.upstreamStatus([scriptClient.resolver.blockOf({ agent: 'llm' })]))[0]
  return { queue, startsOf, state }
}

function longestGapMs(timesMs: readonly number[]): number {
  return Math.max(...timesMs.slice(1).map((ms, index) => ms - (timesMs[index] as number)))
}

test.each([
  { bad: [30], retryAfterMs: 1 },
  { bad: [30], retryAfterMs: 1000 },
  { bad: [0], retryAfterMs: 1000 },
  { bad: [30, 31], retryAfterMs: 1 },
])(
  'calls $bad that their agent refuses always (Retry-After $retryAfterMs ms) keep others waiting for 2 s at most, cost a twentieth of a minute, and end',
  async ({ bad, retryAfterMs }) => {
    const { queue, startsOf, state } = await backlog(PER_SECOND * 66, (place) => (bad.includes(place) ? retryAfterMs : undefined))
    await queue.runFor(MINUTE + 2000, 20)
    const others = startsOf((place) => !bad.includes(place))
    const fromMs = startsOf((place) => bad.includes(place))[0] as number
    expect(longestGapMs(others)).toBeLessThanOrEqual(2000)
    expect(others.filter((ms) => ms >= fromMs && ms < fromMs + MINUTE).length).toBeGreaterThanOrEqual(0.95 * PER_SECOND * 60)
    expect([...queue.over].sort()).toEqual(bad.map((place) => `calls/c${place}`))
    for (const one of bad) {
      const asked = startsOf((place) => place === one)
      expect(asked).toHaveLength(11)
      expect(asked.filter((ms) => ms < (asked[0] as number) + 5000).length).toBeLessThanOrEqual(12)
    }
    expect((await state())?.factor, 'what they cut was given back').toBe(1)
    await queue.cancelAll()
  },
)

test.each([1, 1000])(
  'an agent that refuses everything for 10 s (Retry-After %d ms) is asked ever more rarely, and takes calls again at once',
  async (retryAfterMs) => {
    const END = 10_000
    const { queue, startsOf } = await backlog(400, (_, nowMs) => (nowMs < T0 + END ? retryAfterMs : undefined))
    await queue.runFor(END + 8000, 20)
    const starts = startsOf(() => true)
    expect(starts.filter((ms) => ms > 1000 && ms < END - 40).length).toBeLessThanOrEqual(10)
    const [first, ...later] = starts.filter((ms) => ms >= END - 40)
    expect(first).toBeLessThanOrEqual(END + retryAfterMs + 2000)
    expect(later.filter((ms) => ms < (first as number) + 4000).length, 'at half the rate').toBeGreaterThanOrEqual(2 * PER_SECOND * 0.9)
    expect(queue.over).toEqual([])
    await queue.cancelAll()
  },
)

import { expect, test } from 'vitest'
import type { RuleSpec } from '../../src/index.js'
import { AS_ESTIMATED } from '../../src/model/cost.js'
import { readLineFronts } from '../../src/queue/line-scan.js'
import type { ScriptClient } from '../../src/store/redis/script-client.js'
import { forget } from '../support/keys.js'
import { type Namespace, newNamespace } from '../support/namespace.js'
import { givenScriptClient, requestOf } from '../support/script-client.js'

const RULES: RuleSpec[] = [{ name: 'slots', scope: 'org', limits: [{ concurrency: 1, lease: '2s' }] }]
const SHUT = { claimed: 0, unclaimed: 0, shut: true }
const FULL = { claimed: 0, unclaimed: 8, shut: false }
const FREE = { claimed: 4, unclaimed: 0, shut: false }

function setup(rules: readonly RuleSpec[] = RULES) {
  const namespace = newNamespace()
  const { scriptClient, clock } = givenScriptClient(namespace, rules)
  const requestIn = (queue: string, id: string) => ({ ...requestOf(scriptClient, id, { agent: 'llm', org: 'x' }), id: `${queue}/${id}` })
  return { namespace, scriptClient, clock, requestIn }
}

async function linesNow({ keys, redis }: Namespace): Promise<string[]> {
  return redis.zrange(keys.lines, '0', '-1')
}

async function start(scriptClient: ScriptClient, request: ReturnType<typeof requestOf>): Promise<string> {
  const [decision] = await scriptClient.start([request], [], true)
  return decision?.outcome ?? 'none'
}

test('a call that is woken for a full queue keeps no call of another queue from the room that it does not claim (invariants 7, 12)', async () => {
  const { namespace, scriptClient, requestIn } = setup()
  const running = requestIn('calls', 'running')
  expect(await start(scriptClient, running)).toBe('run')
  await scriptClient.enqueue([requestIn('calls', 'first'), requestIn('calls', 'second')], 'calls')
  await scriptClient.enqueue([requestIn('batch', 'third')], 'batch')
  await scriptClient.settle([{ request: running, actual: AS_ESTIMATED }])

  const fronts = await readLineFronts(namespace.redis, scriptClient, await linesNow(namespace), () => 8)
  const budgets = new Map([
    ['calls', FULL],
    ['batch', FREE],
  ])
  const { woken, unclaimed } = await scriptClient.dispatch(fronts, budgets)
  expect(woken).toEqual(['calls/first', 'batch/third'])
  expect(unclaimed, 'only one call of the full queue is woken for one slot').toEqual(['calls/first'])
  expect(await start(scriptClient, requestIn('batch', 'third'))).toBe('run')
  await forget(namespace)
})

test('a woken call whose slot another call took does not wait for it in a place of its worker, and keeps its place in line (invariants 8, 12)', async () => {
  const { namespace, scriptClient, clock, requestIn } = setup()
  const [promised, later] = [requestIn('calls', 'promised'), requestIn('calls', 'later')]
  const [decision] = await scriptClient.enqueue([promised], 'calls')
  expect(decision?.outcome).toBe('run')
  clock.advance(3000)
  const taker = requestIn('batch', 'taker')
  expect(await start(scriptClient, taker), 'the claim has ended by itself').toBe('run')
  await scriptClient.enqueue([later], 'calls')

  clock.advance(500)
  expect(await start(scriptClient, promised)).toBe('wait')
  const [line] = await linesNow(namespace)
  expect(await namespace.redis.zrange(line ?? '', '0', '-1')).toEqual(['calls/promised', 'calls/later'])
  await forget(namespace)
})

test('calls that come back from the line of their queue in several looks start in their order (invariant 6)', async () => {
  const { namespace, scriptClient, clock, requestIn } = setup([{ name: 'rate', scope: 'org', limits: [{ requests: 1, per: 'second', burst: 1 }] }])
  const names = Array.from({ length: 8 }, (_, n) => `calls/w${n}`)
  const look = async (lines: readonly string[], budget: typeof FREE, calls = 8) =>
    (await scriptClient.dispatch(await readLineFronts(namespace.redis, scriptClient, lines, () => calls), new Map([['calls', budget]]))).woken
  expect(await start(scriptClient, requestIn('batch', 'first'))).toBe('run')
  await scriptClient.enqueue(
    names.map((_, n) => requestIn('calls', `w${n}`)),
    'calls',
  )
  clock.advance(1000)
  const queueLine = namespace.keys.queueLine('calls')
  expect(await look(await linesNow(namespace), SHUT)).toEqual([])
  expect(await namespace.redis.zrange(queueLine, '0', '-1')).toEqual(names)
  // Another queue takes the room before this one works again: the first four go back to the line of the rule.
  expect(await start(scriptClient, requestIn('batch', 'second'))).toBe('run')
  expect(await look([queueLine], FREE, 4)).toEqual([])
  clock.advance(1000)
  expect(await look([queueLine], FREE), 'earlier calls stand in the line of the rule').toEqual([])
  expect(await look(await linesNow(namespace), FREE)).toEqual(['calls/w0'])
  await forget(namespace)
})

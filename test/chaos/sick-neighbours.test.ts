import { Queue } from 'bullmq'
import { expect, onTestFinished, test } from 'vitest'
import type { Call, RuleSpec, Tollgate } from '../../src/index.js'
import { type Namespace, newNamespace } from '../support/namespace.js'
import { Script } from '../support/script.js'
import { until } from '../support/until.js'

const RULES: readonly RuleSpec[] = [{ name: 'account', scope: 'agent', match: { agents: ['a'] }, limits: [{ requests: 20, per: 'second', burst: 1 }] }]
/** How long those may wait who share an account with a sick participant (invariant 12), and what a busy machine adds. */
const BOUND_MS = 10_000

const callsTo = (agent: string, count: number): Call[] => Array.from({ length: count }, () => ({ agent }))

function queueOf(namespace: Namespace, tollgate: Tollgate, name: string): Queue {
  const queue = new Queue(name, { connection: namespace.redis, prefix: tollgate.prefix })
  onTestFinished(() => queue.close())
  return queue
}

/** Runs 40 calls, which takes 2 s alone, and says how much later the last of them ended. */
async function lateness(tollgate: Tollgate): Promise<number> {
  const begin = performance.now()
  const tickets = await tollgate.enqueueMany(callsTo('a', 40))
  await Promise.all(tickets.map((ticket) => ticket.result()))
  return performance.now() - begin - 2000
}

async function untilNothingIsHeld({ redis, keys }: Namespace, tollgate: Tollgate): Promise<void> {
  await until('no call has a pass or stands in line', async () => (await redis.exists(keys.passes, keys.lines)) === 0)
  await until('nothing is claimed', async () => (await tollgate.gate.peek({ agent: 'a' })).usage.every(({ claimed }) => claimed === 0))
}

test.each([
  {
    when: 'before the jobs of its calls are added',
    dies: 'Queue.prototype.addBulk = () => { process.kill(process.pid, "SIGKILL"); return new Promise(() => {}) }',
  },
  {
    when: 'while they are added',
    dies: 'const add = Queue.prototype.addBulk; Queue.prototype.addBulk = function (...args) { const added = add.apply(this, args); setImmediate(() => process.kill(process.pid, "SIGKILL")); return added }',
  },
  { when: 'at any moment', dies: 'setTimeout(() => process.kill(process.pid, "SIGKILL"), 30 * Math.random())' },
])('an app killed in enqueueMany, $when, costs the calls of others two seconds at most, and leaves nothing claimed', async ({ dies }) => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  tollgate.worker(async () => null)
  const app = new Script(
    `import { Queue } from 'bullmq'
const tollgate = await Tollgate.open({ namespace: '${namespace.name}' })
${dies}
await tollgate.enqueueMany(Array.from({ length: 50 }, () => ({ agent: 'a' })))
process.kill(process.pid, 'SIGKILL')`,
    { REDIS_URL: namespace.url },
  )
  await app.result().catch(() => {})
  const queue = queueOf(namespace, tollgate, 'calls')
  const added = (await queue.getJobCountByTypes('delayed', 'wait', 'active')) * 50
  expect((await lateness(tollgate)) - added).toBeLessThan(BOUND_MS)
  await untilNothingIsHeld(namespace, tollgate)
})

test.each([
  { how: 'remove', by: async (queue: Queue) => void (await Promise.all((await queue.getDelayed()).map(({ id }) => queue.remove(id as string)))) },
  { how: 'clean', by: async (queue: Queue) => void (await queue.clean(0, 1000, 'delayed')) },
  { how: 'drain', by: (queue: Queue) => queue.drain(true) },
  {
    how: 'obliterate',
    by: async (queue: Queue) => {
      await queue.pause()
      await queue.obliterate({ force: true })
    },
  },
])("calls whose jobs go by BullMQ's $how cost those behind them two seconds at most", async ({ by }) => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  tollgate.worker(async () => null)
  const gone = await tollgate.enqueueMany(callsTo('a', 200))
  for (const ticket of gone) void ticket.result().catch(() => {})
  await by(queueOf(namespace, tollgate, 'calls'))
  expect(await lateness(tollgate)).toBeLessThan(BOUND_MS)
  await untilNothingIsHeld(namespace, tollgate)
})

test.each(['has no worker', 'is paused in BullMQ', 'has busy workers only'] as const)(
  'calls of a queue that %s hold no room that others could use, keep their place, and start first when it can take them',
  async (state) => {
    const namespace = newNamespace()
    const tollgate = await namespace.open({ rules: RULES })
    const other = await namespace.open({ queue: 'other' })
    const started: string[] = []
    const queue = queueOf(namespace, tollgate, 'other')
    let free = () => {}
    const busy = new Promise<void>((resolve) => {
      free = resolve
    })
    const work = () =>
      other.worker(
        async ({ agent }, { id }) => {
          if (agent === 'b') await busy
          else started.push(id)
        },
        { concurrency: 2 },
      )
    if (state === 'has busy workers only') {
      await other.enqueueMany(callsTo('b', 2))
      work()
      await until('the workers are busy', async () => (await queue.getActiveCount()) === 2)
    } else if (state === 'is paused in BullMQ') {
      await queue.pause()
      work()
    }
    tollgate.worker(async (call) => void started.push(call.org ?? ''))
    const waiting = await other.enqueueMany(Array.from({ length: 30 }, (_, n) => ({ agent: 'a', id: `w${n}` })))
    expect(await lateness(tollgate)).toBeLessThan(BOUND_MS)
    expect(started.filter((name) => name.startsWith('w'))).toEqual([])

    // Later calls of the queue that works wait behind those that came first.
    const later = await tollgate.enqueueMany(Array.from({ length: 60 }, () => ({ agent: 'a', org: 'later' })))
    if (state === 'has no worker') work()
    else if (state === 'is paused in BullMQ') await queue.resume()
    else free()
    await Promise.all(waiting.map((ticket) => ticket.result()))
    expect(started.filter((name) => name.startsWith('w'))).toEqual(Array.from({ length: 30 }, (_, n) => `w${n}`))
    const before = started.slice(0, started.indexOf('w29')).filter((name) => name === 'later').length
    // Those that were on their way already, and those that start in the second until a free place is known.
    expect(before).toBeLessThan(40)
    await Promise.all(later.map((ticket) => ticket.result()))
    await untilNothingIsHeld(namespace, tollgate)
  },
)

test('a call that its worker takes for another one than was enqueued gives back what was claimed for the one that was', async () => {
  const namespace = newNamespace()
  const rules: RuleSpec[] = [...RULES, { name: 'org', scope: 'org', limits: [{ requests: 2, per: 'second', burst: 2 }] }]
  const tollgate = await namespace.open({ rules })
  tollgate.worker(async () => null, { callOf: () => ({ agent: 'a', org: 'y' }) })
  const tickets = await tollgate.enqueueMany(Array.from({ length: 4 }, () => ({ agent: 'a', org: 'x' })))
  await Promise.all(tickets.map((ticket) => ticket.result()))
  expect((await tollgate.gate.peek({ agent: 'a', org: 'x' })).usage.map(({ claimed }) => claimed)).toEqual([0, 0])
  await untilNothingIsHeld(namespace, tollgate)
})

test('a call whose worker died comes back at its old place', async () => {
  const namespace = newNamespace()
  const slow: RuleSpec[] = [{ name: 'account', scope: 'agent', limits: [{ requests: 1, per: 'second', burst: 1 }] }]
  const tollgate = await namespace.open({ rules: slow })
  const dead = new Script(
    `const tollgate = await Tollgate.open({ namespace: '${namespace.name}' })
tollgate.worker(() => process.kill(process.pid, 'SIGKILL'), { leaseMs: 1000, concurrency: 1 })`,
    { REDIS_URL: namespace.url },
  )
  const first = await tollgate.enqueue({ agent: 'a', id: 'first' })
  await dead.result().catch(() => {})
  const tickets = [first, ...(await tollgate.enqueueMany(Array.from({ length: 12 }, (_, n) => ({ agent: 'a', id: `later${n}` }))))]
  const started: string[] = []
  tollgate.worker(async (_, { id }) => void started.push(id), { leaseMs: 1000 })
  await Promise.all(tickets.map((ticket) => ticket.result()))
  // BullMQ finds the dead worker's job one to two leases later; it does not go behind the twelve.
  expect(started).toContain('first')
  expect(started.indexOf('first')).toBeLessThan(6)
})

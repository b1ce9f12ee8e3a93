import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import type { RuleSpec, Tollgate } from '../../src/index.js'
import { slotOf } from '../../src/redis/hash-slot.js'
import { type Namespace, newNamespace } from '../support/namespace.js'
import { until } from '../support/until.js'
import { startCluster } from './support/cluster.js'
import type { RedisNode } from './support/node.js'
import { startSentinels } from './support/sentinels.js'

const RULES: RuleSpec[] = [{ name: 'account', scope: 'agent', strategy: 'queue', limits: [{ requests: 200, per: 'second', burst: 20 }, { concurrency: 10 }] }]
/** After this a call that has not ended counts as lost: that of a lock, of a look at stalled jobs, and a margin. */
const ENDED_MS = 30_000

/** Calls that go on all the while, through app and worker, and what the agent saw of them. */
async function traffic(app: Tollgate, workers: Tollgate) {
  const started = new Map<string, number>()
  const finished = new Set<string>()
  workers.worker(
    async (call) => {
      const name = String(call.payload)
      started.set(name, (started.get(name) ?? 0) + 1)
      await sleep(10)
      finished.add(name)
      return { output: name }
    },
    { leaseMs: 2000 },
  )
  const accepted: string[] = []
  let going = false
  let next = 0
  const enqueueOn = async () => {
    while (going) {
      const name = `c${next++}`
      const taken = await app.enqueue({ id: name, agent: 'llm', payload: name }).catch(() => undefined)
      if (taken !== undefined) accepted.push(name)
      await sleep(5)
    }
  }
  let enqueueing = Promise.resolve()
  const go = () => {
    going = true
    enqueueing = enqueueOn()
  }
  go()
  return {
    started,
    finished,
    accepted,
    go,
    stop: async () => {
      going = false
      await enqueueing
    },
    lost: () => accepted.filter((name) => !finished.has(name)),
  }
}

type Traffic = Awaited<ReturnType<typeof traffic>>

async function flows({ finished }: Traffic, more: number): Promise<void> {
  const from = finished.size
  await until(`${more} more calls have ended`, () => finished.size >= from + more)
}

/** Until a Tollgate gets its decisions from Redis again. */
async function decides(tollgate: Tollgate): Promise<void> {
  await until('Redis decides', async () => (await tollgate.gate.peek({ agent: 'llm' }).catch(() => undefined)) !== undefined && !tollgate.stats.outage().away)
}

async function ends(calls: Traffic, { redis, keys }: Namespace): Promise<void> {
  await calls.stop()
  await until('every accepted call has ended', () => calls.lost().length === 0, ENDED_MS).catch(() => {})
  expect(calls.lost()).toEqual([])
  // A job whose end was on its way when its Redis died is run again when its lock has ended.
  const left = async () => (await Promise.all(['active', 'wait'].map((list) => redis.llen(`${keys.prefix}:calls:${list}`)))).some((jobs) => jobs > 0)
  await until('no job is left', async () => !(await left()), ENDED_MS)
  // The dispatcher looks after a pass whose call started on the server of before.
  await until('no call has a pass or stands in line', async () => (await redis.exists(keys.passes, keys.lines)) === 0, ENDED_MS)
}

/** Until the new master is there, and Redis decides again. The audit of failovers says how long that takes. */
async function resumes(tollgates: readonly Tollgate[], newMaster: () => Promise<unknown>): Promise<void> {
  await newMaster()
  await Promise.all(tollgates.map(decides))
}

/** A namespace with an app and workers, and calls that go on. */
async function inUse(url: string) {
  const namespace = newNamespace(url)
  const app = await namespace.open({ rules: RULES, storeTimeoutMs: 300, connectTimeoutMs: 5000 })
  const workers = await namespace.open({ storeTimeoutMs: 300, connectTimeoutMs: 5000 })
  return { namespace, tollgates: [app, workers], calls: await traffic(app, workers) }
}

/** Until what was accepted so far is at the replica of a master, so that nothing may be lost. */
async function restsAt({ client }: RedisNode, calls: Traffic): Promise<void> {
  await calls.stop()
  await client.call('wait', 1, 1000)
}

async function isMaster({ client }: RedisNode): Promise<boolean> {
  return (await client.info('replication')).includes('role:master')
}

test.each(['killed', 'paused', 'handed over'] as const)('sentinels: the master is %s in mid-run, and calls go on with the next one', async (how) => {
  const fleet = await startSentinels({ replicas: 1 })
  onTestFinished(() => fleet.stop())
  const { namespace, tollgates, calls } = await inUse(fleet.url)
  await flows(calls, 50)
  const old = await fleet.master()
  const replica = fleet.nodes.find((node) => node !== old) as RedisNode
  await restsAt(old, calls)
  if (how === 'killed') await old.kill()
  else if (how === 'paused') old.pause()
  else await fleet.sentinels[0]?.client.call('sentinel', 'failover', 'main')
  await resumes(tollgates, () => until('the replica is master', () => isMaster(replica)))
  calls.go()
  await flows(calls, 30)
  await ends(calls, namespace)
  if (how === 'paused') old.resume()
})

test('a cluster: a master is killed in mid-run, and calls go on with its replica', async () => {
  const fleet = await startCluster()
  onTestFinished(() => fleet.stop())
  const { namespace, tollgates, calls } = await inUse(fleet.url)
  await flows(calls, 50)
  const old = await fleet.owner(namespace.keys.prefix)
  await restsAt(old, calls)
  await old.kill()
  await resumes(tollgates, () => until('another server has the slot', async () => (await fleet.owner(namespace.keys.prefix)) !== old))
  calls.go()
  await flows(calls, 30)
  await ends(calls, namespace)
})

test('a cluster: the slot of a namespace is moved in mid-run, and nothing is lost', async () => {
  const fleet = await startCluster({ replicas: 0 })
  onTestFinished(() => fleet.stop())
  const { namespace, calls } = await inUse(fleet.url)
  await flows(calls, 100)
  const from = await fleet.owner(namespace.keys.prefix)
  const to = fleet.masters.find((node) => node !== from) as RedisNode
  await fleet.move(slotOf(namespace.keys.prefix), from, to)
  expect(await fleet.owner(namespace.keys.prefix)).toBe(to)
  await flows(calls, 50)
  expect(await to.client.dbsize()).toBeGreaterThan(0)
  await ends(calls, namespace)
  expect(Math.max(...calls.started.values())).toBeLessThanOrEqual(2)
})

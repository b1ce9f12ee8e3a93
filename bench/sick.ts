import { setTimeout as sleep } from 'node:timers/promises'
import { Queue } from 'bullmq'
import type { RuleSpec } from '../src/index.js'
import { type RedisServer, redisProgram, startRedisProcess } from '../test/support/redis-process.js'
import type { Figure } from './lib/measure.js'
import { notMeasured } from './lib/measure.js'
import { inNamespaces } from './lib/namespace.js'
import { row as rowOf } from './lib/table.js'
import { Fleet, type Harm, NAMESPACE } from './sick/fleet.js'

/** How long the others are watched from the moment a participant falls sick. */
const WATCHED_MS = 6000
const BACKLOG_S = 9
const WAIT_BAR_MS = 2000
const SHARE_BAR = 0.95
const HELD_BAR_MS = 6000
const MINUTE_MS = 60_000

interface Row {
  readonly sick: string
  /** Makes a participant sick, and watches what that costs the others. */
  readonly run: (fleet: Fleet, redis: RedisServer | undefined) => Promise<Harm>
  /** A Redis of its own, since it is the sick participant: with these flags. */
  readonly redis?: readonly string[]
  readonly within?: (harm: Harm) => boolean
}

const queueOf = (fleet: Fleet, name: string) => new Queue(name, { connection: fleet.client, prefix: fleet.tollgate.prefix })

/** Jobs of waiting calls go by means of BullMQ; calls that come later are watched. */
function removed(how: string, remove: (queue: Queue, ids: readonly string[]) => Promise<unknown>): Row {
  return {
    sick: `150 jobs of waiting calls are gone: ${how}`,
    run: async (fleet) => {
      const ids = await fleet.backlog(7.5, 'removed')
      await sleep(500)
      const queue = queueOf(fleet, 'calls')
      await remove(queue, ids)
      await queue.resume()
      await fleet.backlog(BACKLOG_S)
      return fleet.harmWithin(WATCHED_MS)
    },
  }
}

/** Calls of another queue of the namespace that cannot run there. */
function closedQueue(sick: string, close: (fleet: Fleet) => Promise<unknown>): Row {
  return {
    sick,
    run: async (fleet) => {
      await close(fleet)
      const other = await fleet.participant('other')
      await fleet.backlog(1)
      await other.request('enqueue', { agent: 'a', count: 100 })
      await fleet.backlog(BACKLOG_S, 'later')
      return fleet.harmWithin(WATCHED_MS)
    },
  }
}

/** A worker in a process of its own falls sick while it runs calls of the backlog. */
function sickWorker(sick: string, sicken: (worker: Awaited<ReturnType<Fleet['participant']>>) => unknown, ms = 150): Row {
  return {
    sick,
    run: async (fleet) => {
      const worker = await fleet.participant('calls')
      await worker.request('work', { concurrency: 4, ms })
      await fleet.backlog(BACKLOG_S)
      await sleep(1000)
      await sicken(worker)
      const harm = await fleet.harmWithin(WATCHED_MS)
      return harm
    },
  }
}

/** Redis itself is away; the others are watched from the moment it is back. */
function sickRedis(sick: string, flags: readonly string[], fall: (redis: RedisServer, fleet: Fleet) => Promise<unknown>): Row {
  return {
    sick,
    redis: flags,
    run: async (fleet, redis) => {
      await fleet.backlog(BACKLOG_S)
      await sleep(1000)
      await fall(redis as RedisServer, fleet)
      return fleet.harmWithin(WATCHED_MS)
    },
  }
}

const MORE: RuleSpec = { name: 'more', scope: 'agent', match: { agents: ['a'] }, limits: [{ requests: 40, per: 'second' }] }
const DURABLE = ['--appendonly', 'yes', '--appendfsync', 'always', '--save', '']

const ROWS: readonly Row[] = [
  {
    sick: 'none, for comparison',
    run: async (fleet) => {
      await fleet.backlog(BACKLOG_S)
      return fleet.harmWithin(WATCHED_MS)
    },
  },
  {
    sick: 'app killed in enqueueMany(50), before its jobs are added',
    run: async (fleet) => {
      const app = await fleet.participant('calls')
      await app.request('dieInEnqueue', 50).catch(() => {})
      await fleet.backlog(BACKLOG_S)
      return fleet.harmWithin(WATCHED_MS)
    },
  },
  ...[5, 15, 40].map(
    (afterMs): Row => ({
      sick: `app killed ${afterMs} ms into enqueueMany(200)`,
      run: async (fleet) => {
        const app = await fleet.participant('calls')
        await app.request('dieSoon', { count: 200, afterMs }).catch(() => {})
        await fleet.backlog(BACKLOG_S)
        return fleet.harmWithin(WATCHED_MS)
      },
    }),
  ),
  removed('job.remove()', (queue, ids) => Promise.all(ids.map((id) => queue.remove(id).catch(() => {})))),
  removed('queue.clean()', (queue) => queue.clean(0, 1000, 'delayed')),
  removed('queue.drain(true)', (queue) => queue.drain(true)),
  removed('queue.obliterate()', async (queue) => {
    await queue.pause()
    await queue.obliterate({ force: true })
  }),
  closedQueue('queue without workers, 100 calls', async () => {}),
  closedQueue('queue paused in BullMQ, 100 calls', async (fleet) => {
    const worker = await fleet.participant('other')
    await worker.request('work', { concurrency: 5, ms: 20 })
    await queueOf(fleet, 'other').pause()
  }),
  closedQueue('queue whose workers are busy with other calls, 100 calls', async (fleet) => {
    const worker = await fleet.participant('other')
    await worker.request('enqueue', { agent: 'b', count: 200 })
    await worker.request('work', { concurrency: 2, ms: 8000 })
  }),
  {
    sick: 'rules added and taken back three times between promises and starts',
    run: async (fleet) => {
      await fleet.backlog(BACKLOG_S)
      await sleep(1000)
      const watched = fleet.harmWithin(WATCHED_MS)
      for (let n = 0; n < 3; n++) {
        await fleet.tollgate.rules.add(MORE)
        await sleep(400)
        await fleet.tollgate.rules.remove(MORE.name)
        await sleep(400)
      }
      return watched
    },
  },
  {
    sick: 'call that its agent refuses always (429, Retry-After: 0)',
    run: async (fleet) => {
      fleet.refusing = (id) => id === 'live-5'
      await fleet.backlog(BACKLOG_S)
      return fleet.harmWithin(WATCHED_MS)
    },
    within: ({ refused }) => refused > 0 && refused <= 12,
  },
  {
    sick: 'agent that refuses everything for a second',
    run: async (fleet) => {
      await fleet.backlog(BACKLOG_S)
      await sleep(500)
      fleet.refusing = () => true
      await sleep(1000)
      fleet.refusing = () => false
      return fleet.harmWithin(WATCHED_MS)
    },
  },
  sickWorker('worker killed (SIGKILL) with four calls', (worker) => worker.signal('SIGKILL')),
  sickWorker('worker stopped (SIGSTOP) with four calls', (worker) => worker.signal('SIGSTOP')),
  sickWorker('worker whose connection breaks five times a second', (worker) => worker.request('flap', 200)),
  sickRedis('Redis stands still for longer than a lease', DURABLE, async (redis) => {
    redis.pause()
    await sleep(2500)
    redis.resume()
  }),
  sickRedis('Redis killed, and back with its data', DURABLE, async (redis) => {
    await redis.restart()
  }),
  sickRedis('Redis back empty', ['--save', ''], async (redis, fleet) => {
    await redis.restart()
    await fleet.backlog(BACKLOG_S, 'after')
  }),
  sickRedis('Redis refuses writes for 2 s', DURABLE, async (_, fleet) => {
    await fleet.client.config('SET', 'maxmemory', '1')
    await sleep(2000)
    await fleet.client.config('SET', 'maxmemory', '0')
  }),
]

async function measured(url: string, row: Row, server?: RedisServer): Promise<Figure> {
  return inNamespaces(url, [NAMESPACE], async () => {
    const fleet = await Fleet.open(url)
    const harm = await row.run(fleet, server)
    const held = await fleet.endAll(HELD_BAR_MS)
    await fleet.close()
    const waitMs = Math.round(harm.longestGapMs)
    const share = 1 - harm.lostMs / MINUTE_MS
    const within = row.within?.(harm) ?? true
    return {
      what: `sick: ${row.sick}: how long the others wait at most, in ms`,
      value: waitMs,
      bar: `≤ ${WAIT_BAR_MS}`,
      ok: waitMs <= WAIT_BAR_MS && share >= SHARE_BAR && held.length === 0 && within,
      detail:
        `utilisation over a minute ${share.toFixed(3)} (≥ ${SHARE_BAR}); held afterwards: ${held.length === 0 ? 'nothing' : held.join(', ')}` +
        (harm.refused > 0 ? `; refused ${harm.refused} times` : ''),
    }
  })
}

async function measuredOnItsOwn(program: string, row: Row): Promise<Figure> {
  const server = await startRedisProcess(program, row.redis ?? [])
  try {
    return await measured(server.url, row, server)
  } finally {
    await server.stop()
  }
}

/** For each sick participant: how long it keeps those waiting who share an account with it, what it costs over a minute, and what it leaves behind. */
export async function sick(redis: string): Promise<Figure[]> {
  const program = redisProgram()
  const figures: Figure[] = []
  for (const row of ROWS) {
    if (row.redis !== undefined && program === undefined) figures.push(notMeasured(`sick: ${row.sick}`, `≤ ${WAIT_BAR_MS}`, 'there is no redis-server here'))
    else figures.push(row.redis === undefined ? await measured(redis, row) : await measuredOnItsOwn(program as string, row))
    // Each row as it comes: the table is long.
    console.error(rowOf(figures.at(-1) as Figure))
  }
  return figures
}

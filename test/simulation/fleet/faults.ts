import type { Done } from '../world/redis.js'
import { EPOCH_MS, WAYS_TO_REFUSE } from '../world/server.js'
import { cancel, removeJob, withOpenCall } from './faults-of-calls.js'
import { type Fleet, sleep } from './fleet.js'
import { changeRule, operate } from './operator.js'
import { notePickup } from './pickups.js'
import { persistently, plainQueue } from './plain-jobs.js'
import type { PlannedFault } from './planned-faults.js'
import { replaceWorker } from './worker.js'

/** Sets the faults of a fleet to happen at their times, or after their commands. */
export function armFaults(fleet: Fleet): void {
  const waiting = new Set<PlannedFault>()
  for (const fault of fleet.spec.faults) {
    // Queues without workers, and agents that refuse always, are built into the fleet from its beginning.
    if (fault.kind === 'workerless queue') continue
    if ('atMs' in fault.trigger) fleet.at(fault.trigger.atMs, fault.kind, () => strike(fleet, fault))
    else waiting.add(fault)
  }
  const counts = new Map<string, number>()
  fleet.redis.onDone = (done) => {
    fleet.repeated.note(done, fleet.nowMs)
    notePickup(fleet, done)
    const { name } = done.command.connection.process
    const nth = (command: string) => (command === '*' ? done.count : (counts.get(`${name} ${command}`) ?? 0))
    counts.set(`${name} ${done.name}`, nth(done.name) + 1)
    for (const fault of waiting) {
      const { trigger } = fault
      if ('atMs' in trigger || trigger.process !== name) continue
      if (trigger.command !== '*' && trigger.command !== done.name) continue
      if (nth(trigger.command) < trigger.nth) continue
      waiting.delete(fault)
      strikeAfter(fleet, fault, done)
    }
  }
}

/** A fault right after a command: before its reply is delivered. */
function strikeAfter(fleet: Fleet, fault: PlannedFault, { command, name }: Done): void {
  if (fault.kind !== 'repeated send') {
    fleet.world.at(fleet.nowMs, null, fault.kind, () => strike(fleet, fault))
    return
  }
  // Redis has done the command, its reply is lost: ioredis sends it again on the next connection.
  const { process } = command.connection
  fleet.fault(fault.kind, `the reply to ${name} of ${process.name} is lost`, { process: process.name })
  command.connection.cut(false)
}

function strike(fleet: Fleet, fault: PlannedFault): void | Promise<void> {
  const { kind, forMs = 0, by = 0 } = fault
  const { redis, nowMs } = fleet
  const random = fleet.stream(`strike ${kind} ${nowMs}`)
  const untilMs = nowMs + forMs
  const processOf = (name: string | undefined) => fleet.world.processes.findLast((process) => process.name === name || process.name.startsWith(`${name}.`))
  switch (kind) {
    case 'death': {
      const process = processOf(fault.process)
      if (process === undefined || process.dead) return
      fleet.fault(kind, `${process.name} dies`, { process: process.name, untilMs: Number.POSITIVE_INFINITY })
      process.kill(random.chance(0.5))
      const worker = fleet.workers.find((one) => one.process === process)
      if (worker !== undefined) replaceWorker(fleet, worker)
      return
    }
    case 'stop': {
      const process = processOf(fault.process)
      const others = fleet.workers.filter((worker) => worker.up && worker.process !== process && worker.process.running)
      if (process === undefined || !process.running || others.length === 0) return
      fleet.fault(kind, `${process.name} stands still for ${forMs.toFixed(0)} ms`, { process: process.name, untilMs })
      process.stop(forMs)
      return
    }
    case 'cut': {
      const connections = [...redis.connections]
      if (connections.length === 0) return
      const connection = random.pick(connections)
      fleet.fault(kind, `${connection.name} of ${connection.process.name} breaks`, { process: connection.process.name })
      connection.cut(random.chance(0.5))
      return
    }
    case 'repeated send':
      return
    case 'failover': {
      if (by === Number.POSITIVE_INFINITY) {
        fleet.fault(kind, 'Redis comes back without its data', { lostFromMs: EPOCH_MS, untilMs })
        return redis.restartEmpty(forMs)
      }
      const atMs = nowMs
      return redis.takeSnapshot().then((snapshot) => {
        fleet.world.at(atMs + by, null, kind, async () => {
          fleet.fault(kind, `Redis forgets ${(fleet.nowMs - atMs).toFixed(0)} ms`, { lostFromMs: atMs, untilMs: fleet.nowMs + forMs })
          await redis.failOver(snapshot, forMs)
        })
      })
    }
    case 'node clock': {
      const process = processOf(fault.process)
      if (process === undefined || process.dead) return
      fleet.fault(kind, `the clock of ${process.name} steps by ${by.toFixed(0)} ms`, { process: process.name, untilMs: Number.POSITIVE_INFINITY })
      process.stepClock(by)
      return
    }
    case 'redis clock':
      fleet.fault(kind, `Redis' clock steps by ${by.toFixed(0)} ms`, { untilMs: nowMs + Math.abs(by), byMs: by })
      redis.clockSkewMs += by
      return
    case 'function flush':
      fleet.fault(kind, 'Redis loses its functions')
      return redis.flushFunctions()
    case 'slow network':
      return slowNetwork(fleet, untilMs, by)
    case 'redis refuses writes':
      fleet.fault(kind, `Redis refuses writes (${WAYS_TO_REFUSE[by]}) for ${forMs.toFixed(0)} ms`, { untilMs })
      fleet.world.at(untilMs, null, kind, () => redis.refuseWrites(undefined))
      return redis.refuseWrites(WAYS_TO_REFUSE[by])
    case 'redis away':
      fleet.fault(kind, `Redis ${by === 0 ? 'refuses connections' : 'stands still'} for ${forMs.toFixed(0)} ms`, { untilMs })
      if (by === 1) {
        redis.silentUntilMs = untilMs
        return
      }
      redis.downUntilMs = untilMs
      for (const connection of [...redis.connections]) connection.cut(random.chance(0.5))
      return
    case 'rule change':
      return changeSomeRule(fleet, random)
    case 'override':
      return override(fleet, random, by, forMs)
    case 'pause': {
      const org = random.pick(fleet.spec.orgs)
      fleet.fault(kind, `calls of org ${org} are paused for ${forMs.toFixed(0)} ms`, { scopes: { org }, untilMs })
      const pause = operate(fleet, kind, async ({ tollgate }) => {
        await tollgate.pause({ org }, { reason: 'simulated' })
      })
      fleet.world.at(untilMs, null, 'resume', () => {
        operate(fleet, 'resume', async ({ tollgate }) => {
          // Its pause may have been refused, and come into force now.
          while (!pause.done) await sleep(50)
          await tollgate.resume({ org })
          fleet.world.note('operator', `calls of org ${org} are resumed`)
        })
      })
      return
    }
    case 'cancel':
      for (let left = by || 1; left > 0; left--) withOpenCall(fleet, random, (one) => cancel(fleet, one))
      return
    case 'removed job':
      return withOpenCall(fleet, random, (one) => removeJob(fleet, one))
    case 'paused queue':
      return pauseQueue(fleet, fault.queue ?? 'calls', untilMs)
    case 'workerless queue':
      return
    case 'agent refuses once':
    case 'agent refuses for a while':
      return refuse(fleet, fault, untilMs)
    case 'agent refuses always':
      return withOpenCall(fleet, random, (one) => {
        one.poisoned = true
        const agent = fleet.agents.get(one.call.agent)
        if (agent !== undefined) agent.refusals.retryAfterMs = by
        fleet.fault(kind, `agent ${one.call.agent} refuses ${one.name} always`, {
          call: one.name,
          scopes: { agent: one.call.agent },
          untilMs: Number.POSITIVE_INFINITY,
        })
      })
    case 'odd usage': {
      const agent = fleet.agents.get(fault.agent ?? '')
      if (agent === undefined) return
      fleet.fault(kind, `agent ${fault.agent} reports ${by} times the estimate`, { scopes: { agent: fault.agent as string }, untilMs })
      agent.odd = { untilMs, factor: by }
      return
    }
    default:
      throw new Error(`unknown fault ${kind satisfies never}`)
  }
}

type Stream = ReturnType<Fleet['stream']>

function slowNetwork(fleet: Fleet, untilMs: number, slowMs: number): void {
  const { network } = fleet.redis
  const { spec } = network
  fleet.fault('slow network', `one way in twenty takes about ${slowMs.toFixed(0)} ms`, { untilMs })
  network.spec = { ...spec, slowShare: 0.05, slowMs }
  fleet.world.at(untilMs, null, 'network recovers', () => {
    network.spec = spec
  })
}

function changeSomeRule(fleet: Fleet, random: Stream): void {
  const rule = random.pick(fleet.rules)
  const tenant = fleet.rules.find(({ name }) => name === 'tenant')
  if (tenant !== undefined && random.chance(0.5)) {
    const orgs = tenant.match?.orgs?.length === 1 ? ['x', 'y'] : ['x']
    fleet.fault('rule change', `rule tenant covers ${orgs.join(', ')}`)
    changeRule(fleet, 'tenant', { match: { orgs } })
    return
  }
  if (random.chance(0.3)) {
    const enabled = rule.enabled === false
    fleet.fault('rule change', `rule ${rule.name} is ${enabled ? 'enabled' : 'disabled'}`)
    changeRule(fleet, rule.name, { enabled })
    return
  }
  const factor = random.pick([0.5, 2])
  const limits = rule.limits.map((limit) => {
    if (limit.concurrency !== undefined) return { ...limit, concurrency: Math.max(1, Math.round(limit.concurrency * factor)) }
    if (limit.requests !== undefined) return { ...limit, requests: Math.max(1, limit.requests * factor) }
    return limit
  })
  fleet.fault('rule change', `the limits of rule ${rule.name} are multiplied by ${factor}`)
  changeRule(fleet, rule.name, { limits })
}

function override(fleet: Fleet, random: Stream, by: number, forMs: number): void {
  const org = random.pick(fleet.spec.orgs)
  const allow = by === Number.POSITIVE_INFINITY ? 'unlimited' : { times: by }
  fleet.fault('override', `org ${org} is allowed ${allow === 'unlimited' ? 'everything' : `${by} times as much`} for ${forMs.toFixed(0)} ms`, {
    scopes: { org },
  })
  operate(fleet, 'override', async ({ tollgate }) => {
    const id = await tollgate.overrides.grant({ for: { org }, allow, reason: 'testing', forMs })
    const until = tollgate.overrides.list().find((one) => one.id === id)?.until
    const own = { kind: 'org', value: org, times: allow === 'unlimited' ? allow : by } as const
    fleet.overrides = [...fleet.overrides, own]
    fleet.noteLimits()
    const endsAtMs = until === undefined ? fleet.nowMs + forMs : Date.parse(until) - fleet.redis.clockSkewMs
    fleet.world.at(endsAtMs, null, 'override ends', () => {
      fleet.overrides = fleet.overrides.filter((one) => one !== own)
      fleet.noteLimits()
    })
  })
}

function pauseQueue(fleet: Fleet, name: string, untilMs: number): void {
  const { operator } = fleet
  if (operator === undefined) return
  const queue = plainQueue(fleet, operator.process, name)
  fleet.fault('paused queue', `queue ${name} is paused in BullMQ`, { queue: name, untilMs })
  let paused = false
  fleet.inProcess(operator.process, 'pause queue', async () => {
    await persistently(() => queue.pause())
    paused = true
    fleet.note({ fact: 'queue', atMs: fleet.nowMs, queue: name, state: 'paused' })
  })
  fleet.world.at(untilMs, null, 'resume queue', () =>
    fleet.inProcess(operator.process, 'resume queue', async () => {
      // Its pause may have been refused, and come into force now.
      while (!paused) await sleep(50)
      await persistently(() => queue.resume())
      fleet.note({ fact: 'queue', atMs: fleet.nowMs, queue: name, state: 'resumed' })
    }),
  )
}

function refuse(fleet: Fleet, { kind, agent: name = '', by = 0, forMs }: PlannedFault, untilMs: number): void {
  const agent = fleet.agents.get(name)
  if (agent === undefined) return
  fleet.fault(kind, `agent ${name} refuses ${forMs === undefined ? 'the next call' : `calls for ${forMs.toFixed(0)} ms`}, Retry-After ${by} ms`, {
    scopes: { agent: name },
    untilMs,
  })
  agent.refusals = { left: forMs === undefined ? 1 : 0, untilMs: forMs === undefined ? 0 : untilMs, retryAfterMs: by }
}

/** The time at which the last fault that has a time begins or ends. */
export function lastFaultMs(fleet: Fleet): number {
  const ends = fleet.spec.faults.map(({ trigger, forMs = 0 }) => ('atMs' in trigger ? EPOCH_MS + trigger.atMs + forMs : 0))
  return Math.max(EPOCH_MS, ...ends)
}

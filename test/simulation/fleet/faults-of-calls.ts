import type { Random } from '../world/random.js'
import type { FleetCall } from './calls.js'
import type { Fleet } from './fleet.js'
import { plainQueue } from './plain-jobs.js'

/** Does something to a call that is under way. */
export function withOpenCall(fleet: Fleet, random: Random, act: (one: FleetCall) => void): void {
  const open = [...fleet.calls.values()].filter((one) => one.answered && !one.ended && !one.poisoned && one.door === 'queue' && one.id !== '' && !one.by.dead)
  if (open.length > 0) act(random.pick(open))
}

/** The calls that share a ticket: one, and those that joined it (deduplication). */
function ofTicket(fleet: Fleet, { id }: FleetCall): string[] {
  return [...fleet.calls.values()].filter((one) => one.id === id).map(({ name }) => name)
}

export function cancel(fleet: Fleet, one: FleetCall): void {
  const member = fleet.apps.find(({ process }) => process === one.by)?.member
  if (member === undefined) return
  const calls = ofTicket(fleet, one)
  for (const call of calls) fleet.fault('cancel', `${call} is cancelled`, { call })
  fleet.inProcess(one.by, 'cancel', async () => {
    try {
      const took = await member.tollgate.cancel(one.id)
      for (const call of calls) fleet.note({ fact: 'cancelled', atMs: fleet.nowMs, call, took })
      fleet.world.note(one.by.name, `cancel of ${one.name}: ${took}`)
    } catch (error) {
      if (!['CALL_UNKNOWN', 'STORE_UNAVAILABLE'].includes(String((error as { code?: string }).code))) throw error
    }
  })
}

export function removeJob(fleet: Fleet, one: FleetCall): void {
  const { operator } = fleet
  if (operator === undefined || one.queue === undefined) return
  const queue = plainQueue(fleet, operator.process, one.queue)
  for (const call of ofTicket(fleet, one)) fleet.fault('removed job', `the job of ${call} is removed in BullMQ`, { call })
  fleet.inProcess(operator.process, 'remove', async () => {
    try {
      // BullMQ refuses to remove a job that a worker has.
      await (await queue.getJob(one.id))?.remove()
    } catch (error) {
      fleet.world.note('operator', `the job of ${one.name} was not removed: ${(error as Error).message}`)
    }
  })
}

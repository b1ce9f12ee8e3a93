import type { Done } from '../world/redis.js'
import type { Fleet } from './fleet.js'

/** The scripts of BullMQ that hand a job to a worker, in their reply. */
const HANDS_OUT: ReadonlySet<string> = new Set(['moveToActive', 'moveToFinished'])
/** A reply with a job begins with the fields of its hash. */
const WITH_JOB = /^\*\d+\r\n\*/
/** The name of a call, which its payload has. */
const NAME = /"payload":\{"name":"(k\d+)"/

/** The script that ends jobs together, and answers each with the next one, in JSON. */
const FINISHES = 'finish'
const NAMES_IN_JSON = /\\"payload\\":\{\\"name\\":\\"(k\d+)\\"/g

/** Notes that Redis handed the jobs of calls to a worker. */
export function notePickup(fleet: Fleet, { command, name, replies }: Done): void {
  const handed = (call: string) => fleet.note({ fact: 'handed', atMs: fleet.nowMs, call, to: command.connection.process.name })
  if (name !== FINISHES && !HANDS_OUT.has(name)) return
  const reply = (replies.at(-1) as Buffer).toString('latin1')
  if (name === FINISHES) {
    for (const [, call] of reply.matchAll(NAMES_IN_JSON)) handed(call as string)
    return
  }
  const call = WITH_JOB.test(reply) ? NAME.exec(reply)?.[1] : undefined
  if (call !== undefined) handed(call)
}

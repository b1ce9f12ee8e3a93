import { Job, type Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import { idTaken } from '../admission/identity.js'
import type { Call } from '../model/call.js'
import { TollgateError } from '../model/errors.js'
import { isJobOf, keptIdentity } from './stored-call.js'

/** Is thrown where the job of a call exists already. */
export class Joined extends Error {}

/** Of calls that are enqueued, the jobs that exist already: under the id of a call, or under its deduplication key. Each is either that of the call, or another call's. */
export class ExistingJobs {
  constructor(
    private readonly queue: Queue,
    private readonly redis: Redis,
  ) {}

  /** The id of the job that this call's id or deduplication key stands for already. @throws ID_TAKEN where it is another call's */
  async find(call: Call, identity: string): Promise<string | undefined> {
    const { id, deduplicationKey } = call
    if (id !== undefined && (await this.joins(id, call, identity))) return id
    if (deduplicationKey === undefined) return undefined
    const holder = (await this.queue.getDeduplicationJobId(deduplicationKey)) ?? undefined
    if (holder !== undefined) await this.assertDuplicate(holder, call, identity)
    return holder
  }

  /** Whether there is a job under an id. @throws ID_TAKEN where it is another call's */
  async joins(id: string, call: Call, identity: string): Promise<boolean> {
    const job = await this.queue.getJob(id)
    if (job !== undefined && !isJobOf(job, call, identity)) throw idTaken(id)
    return job !== undefined
  }

  /** The job for which BullMQ took this call by its deduplication key. @throws ID_TAKEN where it is another call's */
  async assertDuplicate(id: string, call: Call, identity: string): Promise<void> {
    const job = await this.queue.getJob(id)
    if (job !== undefined && !isJobOf(job, call, identity))
      throw new TollgateError('ID_TAKEN', 'the deduplication key of the call is that of another call, with another agent or other scope values')
  }

  /**
   * What BullMQ has under the id of a call, after its job was added: it adds no second job under one id, and does not say so.
   * @returns whether that has ended: then a promise to the call is in vain @throws ID_TAKEN where it is another call's
   */
  async hasEnded(id: string, call: Call, identity: string): Promise<boolean> {
    const [opts = null, finishedOn = null] = await this.redis.hmget(this.queue.toKey(id), 'opts', 'finishedOn')
    if (opts !== null && keptIdentity(Job.optsFromJSON(opts)) !== identity) await this.joins(id, call, identity)
    return finishedOn !== null
  }
}

import { Job, Queue, type Telemetry } from 'bullmq'
import type { Redis } from 'ioredis'
import { withoutArguments } from '../model/secrets.js'
import type { Keys } from '../redis/keys.js'
import { repliesTo } from '../redis/replies.js'
import { scripts } from '../store/redis/scripts.js'
import { BATCHED_BULLMQ_VERSIONS, versionOfBackend } from './batched-backend.js'
import { parseRecordId } from './stored-call.js'

/** Of the queue, in the order of the script's header. */
const PROMOTE_KEYS = ['delayed', 'wait', 'prioritized', 'active', 'meta', 'pc', 'events', 'marker'] as const
/** Jobs in one script call: it lasts about a millisecond then. */
const JOBS_AT_ONCE = 100

/** Where BullMQ has the job of a woken call. held: a worker has its lock. */
export type JobState = 'delayed' | 'queued' | 'held' | 'missing'

/** The BullMQ queues of a namespace, opened when first needed. */
export class Queues {
  private readonly open = new Map<string, Queue>()

  constructor(
    private readonly redis: Redis,
    private readonly keys: Keys,
    private readonly telemetry?: Telemetry | undefined,
  ) {}

  get(name: string): Queue {
    let queue = this.open.get(name)
    if (queue === undefined) {
      queue = new Queue(name, { connection: this.redis, prefix: this.keys.prefix, ...(this.telemetry === undefined ? {} : { telemetry: this.telemetry }) })
      // BullMQ emits the connection's errors again here; they are logged at the connection.
      queue.on('error', () => {})
      this.open.set(name, queue)
    }
    return queue
  }

  /**
   * Puts the delayed jobs of woken calls into the wait lists: those of one queue by one script, in their order.
   * @param ids of records @returns of each whether its job was delayed; false: it is not any more, or not yet
   */
  async promote(ids: readonly string[]): Promise<boolean[]> {
    const byQueue = new Map<string, { readonly jobId: string; readonly index: number }[]>()
    for (const [index, id] of ids.entries()) {
      const { queue, jobId } = parseRecordId(id)
      const jobs = byQueue.get(queue)
      if (jobs === undefined) byQueue.set(queue, [{ jobId, index }])
      else jobs.push({ jobId, index })
    }
    const promoted: boolean[] = []
    const sent = [...byQueue].map(async ([queue, jobs]) => {
      for (let from = 0; from < jobs.length; from += JOBS_AT_ONCE) {
        const some = jobs.slice(from, from + JOBS_AT_ONCE)
        const answers = await this.promoteOf(
          queue,
          some.map(({ jobId }) => jobId),
        )
        for (const [n, { index }] of some.entries()) promoted[index] = answers[n] === true
      }
    })
    await Promise.all(sent)
    return promoted
  }

  private async promoteOf(name: string, jobIds: readonly string[]): Promise<boolean[]> {
    const queue = this.get(name)
    if (!BATCHED_BULLMQ_VERSIONS.includes(versionOfBackend(queue.backend))) return Promise.all(jobIds.map((jobId) => this.promoteOne(queue, jobId)))
    const keys = [...PROMOTE_KEYS.map((key) => queue.toKey(key)), ...jobIds.map((jobId) => queue.toKey(jobId))]
    const letters = await scripts.promote.run(this.redis, keys, jobIds)
    return [...letters].map((letter) => letter === '1')
  }

  /** By BullMQ's own script. */
  private async promoteOne(queue: Queue, jobId: string): Promise<boolean> {
    const job = new Job(queue, '', null, {}, jobId)
    try {
      await job.promote()
      return true
    } catch (error) {
      // A negative code is an answer of BullMQ: the job is missing or not delayed.
      if (error instanceof Error && 'code' in error && typeof error.code === 'number' && error.code < 0) return false
      throw withoutArguments(error)
    }
  }

  async jobStates(ids: readonly string[]): Promise<JobState[]> {
    const pipeline = this.redis.pipeline()
    for (const id of ids) {
      const { queue, jobId } = parseRecordId(id)
      const toKey = (type: string) => this.get(queue).toKey(type)
      pipeline.zscore(toKey('delayed'), jobId)
      pipeline.exists(toKey(jobId))
      pipeline.exists(`${toKey(jobId)}:lock`)
      pipeline.hexists(toKey(jobId), 'finishedOn')
    }
    const replies = await repliesTo(pipeline)
    return ids.map((_, index) => {
      const [delayed, exists, locked, finished] = replies.slice(index * 4, index * 4 + 4)
      if (delayed !== null) return 'delayed'
      if (exists === 0 || finished === 1) return 'missing'
      return locked === 1 ? 'held' : 'queued'
    })
  }

  async close(): Promise<void> {
    await Promise.all([...this.open.values()].map((queue) => queue.close()))
    this.open.clear()
  }
}

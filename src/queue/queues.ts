import { Job, Queue, type Telemetry } from 'bullmq'
import type { Redis } from 'ioredis'
import { withoutArguments } from '../model/secrets.js'
import type { Keys } from '../redis/keys.js'
import { repliesTo } from '../redis/replies.js'
import { parseRecordId } from './stored-call.js'

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

  /** Puts the delayed job of a woken call into the wait list. Returns false if it is not delayed (any more, or yet). */
  async promote(id: string): Promise<boolean> {
    const { queue, jobId } = parseRecordId(id)
    const job = new Job(this.get(queue), '', null, {}, jobId)
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

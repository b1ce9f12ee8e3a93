import { type KeepJobs, type MinimalJob, type RedisQueueBackend, raw2NextJobData, type WorkerOptions } from 'bullmq'
import type { Redis } from 'ioredis'
import { Batcher } from '../store/redis/batcher.js'
import { scripts } from '../store/redis/scripts.js'

/** The options of a BullMQ worker that matter to the end of its jobs. */
export type FinishOptions = Pick<WorkerOptions, 'name' | 'lockDuration' | 'removeOnComplete' | 'limiter' | 'metrics'>

/** What BullMQ's backend answers of a job that has completed. */
type Finished = Awaited<ReturnType<RedisQueueBackend['moveToCompleted']>>

/** Which completed jobs BullMQ keeps: a number of them, those of some time, or all, and a bound on how many one end removes. */
interface Kept {
  readonly count: number | ''
  readonly ageS: number | ''
  readonly removeAtMost: number
}

interface Ending {
  readonly id: string
  readonly token: string
  /** The return value as JSON. */
  readonly value: string
  readonly fetchNext: boolean
  readonly kept: Kept
}

/** What `lua/finish.lua` says of one job. */
type Reply = number | 'own' | [fields: string[] | 0, id: string | 0, rateLimitMs: number, delayUntilMs: number]

interface Failure {
  readonly error: string
}

interface BatchAnswer {
  readonly reply: Reply
  /** The time that the script was sent with. */
  readonly finishedOn: number
}

/** So many jobs that end in one turn travel before the turn is over. */
const FULL_ENDINGS = 32
/** Jobs that travel together at most: the script lasts about 2 ms then. */
const AT_MOST = 100
/** How long BullMQ's script is used for a queue that is paused, or has a concurrency or a rate of its own, before that is looked at again. */
const OWN_WAY_MS = 1000
/** BullMQ's default of `limit` in `removeOnComplete`. */
const REMOVED_AT_MOST = 1000

/**
 * Completes the jobs of a worker, those of one turn of the event loop by one script call; each is answered with the next job for its place.
 *
 * BullMQ sends a script for each job: some 22 commands, of which most are alike for all of them (the options of the queue, its events, delayed jobs,
 * old results), and 37 Lua functions that are made anew. With `lua/finish.lua` a job costs half of that in Redis and in Node.
 *
 *     job 1 done ┐                                                          ┌ job 1: completed, next is job 7
 *     job 2 done ├─ one turn ─▶ finish: reads locks, completes 1, 2 and 4 ─▶ ├ job 2: completed, nothing waits
 *     job 3 done │                                                          ├ job 3: has a parent ─▶ BullMQ's own script
 *     job 4 done ┘                                                          └ job 4: completed, next is job 8
 *
 * `finish` answers undefined where BullMQ's own script is to complete the job:
 * - jobs with a parent, children or deduplication, for which the script has written nothing;
 * - all jobs of a queue that is paused, or has a global concurrency or rate, for a second at a time;
 * - one job now and then where old results are to be removed that have a parent.
 *
 * If something is lost here:
 * - the process dies before the script: the locks of its jobs end, and other workers run them again. After it: the jobs are done, and the next ones
 *   are run again by others when their locks end. Both are as without batches.
 * - the reply is lost with its connection: ioredis sends the same command again. The jobs are answered as gone or without a lock (-1, -2), as BullMQ
 *   answers a second end; the next jobs of the first reply are run when their locks end.
 * - Redis refuses the script, or is away: it has written nothing, each job is told, and `PersistentWorker` tells each end again.
 * - one job fails within the script: the others are completed, and that one is answered with its error.
 */
export class FinishBatcher {
  private readonly batcher: Batcher<Ending, BatchAnswer>
  /** The ids of the jobs that are sent and not answered yet. */
  private readonly underWay = new Set<string>()
  /** Until when BullMQ's script completes all jobs, by `performance.now`. */
  private ownWayUntil = 0
  /** Whether there are old results that only BullMQ's script removes: the next end goes by it. */
  private oldLeft = false

  constructor(
    private readonly redis: Redis,
    private readonly backend: RedisQueueBackend,
    private readonly options: FinishOptions,
  ) {
    this.batcher = new Batcher(
      AT_MOST,
      () => 1,
      (endings) => this.send(endings),
      FULL_ENDINGS,
    )
  }

  /** @returns undefined where BullMQ's own script is to complete the job @throws the error of BullMQ where it cannot be completed */
  async finish(
    job: MinimalJob,
    value: unknown,
    keep: boolean | number | KeepJobs | undefined,
    token: string,
    fetchNext: boolean,
  ): Promise<Finished | undefined> {
    const { id } = job
    if (id === undefined || this.underWay.has(id) || !this.isPlain(job, token)) return undefined
    const ending = { id, token, value: JSON.stringify(value) ?? 'null', fetchNext, kept: keptOf(keep ?? this.options.removeOnComplete) }
    this.underWay.add(id)
    const { reply, finishedOn } = await this.batcher.add(ending).finally(() => this.underWay.delete(id))
    if (reply === 'own') return undefined
    if (Array.isArray(reply)) return { finishedOn, result: raw2NextJobData(reply) }
    if (reply === 0) return { finishedOn, result: [] }
    throw this.backend.finishedErrors({ code: reply as number, jobId: id, command: 'moveToFinished', state: 'active' })
  }

  private isPlain(job: MinimalJob, token: string): boolean {
    if (this.oldLeft) {
      this.oldLeft = false
      return false
    }
    const { deduplicationId } = job as { deduplicationId?: string }
    return job.parentKey === undefined && job.parent === undefined && deduplicationId === undefined && token !== '0' && performance.now() >= this.ownWayUntil
  }

  /** Jobs whose results are kept alike go in one script call: nearly always all. */
  private async send(endings: readonly Ending[]): Promise<(BatchAnswer | Error)[]> {
    const alike = new Map<string, { readonly ending: Ending; readonly index: number }[]>()
    for (const [index, ending] of endings.entries()) {
      const { count, ageS, removeAtMost } = ending.kept
      const name = `${count} ${ageS} ${removeAtMost}`
      const some = alike.get(name)
      if (some === undefined) alike.set(name, [{ ending, index }])
      else some.push({ ending, index })
    }
    const replies: (BatchAnswer | Error)[] = []
    const sent = [...alike.values()].map(async (some) => {
      const answers = await this.run(some.map(({ ending }) => ending)).catch((error: Error) => some.map(() => error))
      for (const [n, { index }] of some.entries()) replies[index] = answers[n] as BatchAnswer | Error
    })
    await Promise.all(sent)
    return replies
  }

  private async run(endings: readonly Ending[]): Promise<(BatchAnswer | Error)[]> {
    const { keys, closing } = this.backend
    const prefix = keys[''] as string
    const { count, ageS, removeAtMost } = (endings[0] as Ending).kept
    const { lockDuration = 0, name = '' } = this.options
    const wantsNext = endings.map(({ fetchNext }) => (fetchNext && closing === undefined ? '1' : '0')).join('')
    const finishedOn = Date.now()
    const text = await scripts.finish.run(
      this.redis,
      [...QUEUE_KEYS.map((key) => keys[key] as string), ...endings.map(({ id }) => `${prefix}${id}`)],
      [finishedOn, prefix, lockDuration, name, count, ageS, removeAtMost, wantsNext, ...endings.flatMap(({ token, value }) => [token, value])],
    )
    if (text === '') {
      this.ownWayUntil = performance.now() + OWN_WAY_MS
      return endings.map(() => ({ reply: 'own', finishedOn }))
    }
    const [oldLeft, ...replies] = JSON.parse(text) as [number, ...(Reply | Failure)[]]
    if (oldLeft === 1) this.oldLeft = true
    return replies.map((reply) => (typeof reply === 'object' && 'error' in reply ? errorOf(reply) : { reply, finishedOn }))
  }
}

/** In the order of the script's header. */
const QUEUE_KEYS = ['wait', 'active', 'prioritized', 'events', 'stalled', 'delayed', 'meta', 'pc', 'completed', 'marker'] as const

/** As BullMQ reads `removeOnComplete`. */
function keptOf(keep: boolean | number | KeepJobs | undefined): Kept {
  if (typeof keep === 'object') {
    const { count, age, limit } = keep as { count?: number; age?: number; limit?: number }
    return { count: count ?? '', ageS: age ?? '', removeAtMost: limit ?? REMOVED_AT_MOST }
  }
  return { count: typeof keep === 'number' ? keep : keep ? 0 : -1, ageS: '', removeAtMost: REMOVED_AT_MOST }
}

/** The error of one job of a batch, as ioredis gives that of a command. */
function errorOf({ error }: Failure): Error {
  return Object.assign(new Error(error), { name: 'ReplyError' })
}

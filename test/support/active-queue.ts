import { randomUUID } from 'node:crypto'
import { type BackendFactory, type Job, type KeepJobs, Queue, type RedisQueueBackend, Worker } from 'bullmq'
import type { Redis } from 'ioredis'
import { bullState, removeKeys } from './bull-state.js'
import { until } from './until.js'

/** A job of a worker that is about to complete it. */
export interface ActiveJob {
  /** What BullMQ or its keys were made to know of it. */
  readonly kind: 'plain' | 'child' | 'orphan' | 'deduplicated' | 'replaced' | 'parent' | 'failed-child' | 'no-lock' | 'other-lock' | 'no-job' | 'not-active'
  readonly keep: boolean | number | KeepJobs | undefined
  readonly fetchNext: boolean
  readonly value: unknown
}

export interface WaitingJob {
  readonly kind: 'plain' | 'lifo' | 'due' | 'later' | 'urgent' | 'idle' | 'old-marker'
}

/** A job that has completed long ago: without a parent, with one that was removed, and with one that still waits for it. */
export type OldJob = 'plain' | 'child' | 'awaited'

export interface QueueSpec {
  readonly active: readonly ActiveJob[]
  readonly waiting: readonly WaitingJob[]
  readonly old: readonly OldJob[]
  readonly meta: 'none' | 'paused' | 'concurrency' | 'rate'
  /** How many events of the queue are kept; undefined: as BullMQ has it, which then writes it down. */
  readonly maxEvents: number | undefined
}

const LOCK_MS = 30_000
const AGO_MS = 100_000

/** A queue of BullMQ in which jobs are active, without a worker that runs: tests complete the jobs by its backend. */
export class ActiveQueue {
  readonly prefix = `{t-${randomUUID()}}`
  readonly queue: Queue
  private readonly worker: Worker
  private readonly jobs: Job[] = []

  private constructor(
    private readonly redis: Redis,
    readonly spec: QueueSpec,
    factory: BackendFactory<RedisQueueBackend>,
  ) {
    this.queue = new Queue('q', { connection: redis, prefix: this.prefix })
    this.worker = new Worker('q', null, { connection: redis, prefix: this.prefix, name: 'w', lockDuration: LOCK_MS, removeOnComplete: { age: 50 } }, factory)
  }

  static async create(redis: Redis, spec: QueueSpec, factory: BackendFactory<RedisQueueBackend>): Promise<ActiveQueue> {
    const created = new ActiveQueue(redis, spec, factory)
    await created.addOld()
    await created.addActive()
    await created.addWaiting()
    await created.setMeta()
    return created
  }

  get backend(): RedisQueueBackend {
    return this.worker.getBackend()
  }

  key(name: string): string {
    return `${this.prefix}:q:${name}`
  }

  /** Completes the active jobs of these places within one turn; per place what was answered. */
  async complete(places: readonly number[]): Promise<unknown[]> {
    const answers = await Promise.allSettled(
      places.map((place) => {
        const { value, keep, fetchNext } = this.spec.active[place] as ActiveJob
        const job = this.jobs[place] as Job
        return this.backend.moveToCompleted(job, value, keep as boolean, `token ${place}`, fetchNext)
      }),
    )
    const told = answers.map((answer) =>
      answer.status === 'fulfilled'
        ? { ...answer.value, finishedOn: answer.value.finishedOn > 1e12 }
        : { error: String(answer.reason), code: (answer.reason as { code?: number }).code },
    )
    // undefined becomes null, and times of next jobs and of a rate limit go.
    return JSON.parse(
      JSON.stringify(told)
        .replace(/\b1[5-9]\d{11}(\.\d+)?\b/g, '0')
        .replaceAll(this.prefix, '<prefix>'),
    ) as unknown[]
  }

  state(): Promise<Record<string, unknown>> {
    return bullState(this.redis, this.prefix)
  }

  async end(): Promise<void> {
    await this.worker.close(true)
    await this.queue.close()
    await removeKeys(this.redis, this.prefix)
  }

  private async addOld(): Promise<void> {
    for (const [n, kind] of this.spec.old.entries()) {
      const id = `old ${n}`
      await this.queue.add('old', {}, { jobId: id })
      await this.backend.moveToActive('old', 'w')
      await this.redis.hset(this.key(id), 'returnvalue', '1', 'finishedOn', 1)
      await this.redis
        .multi()
        .del(this.key(`${id}:lock`))
        .lrem(this.key('active'), 1, id)
        .zadd(this.key('completed'), Date.now() - AGO_MS + n, id)
        .exec()
      if (kind === 'plain') continue
      await this.redis.hset(this.key(id), 'parentKey', this.key(`p ${n}`))
      if (kind === 'awaited') await this.addParent(`p ${n}`, id)
    }
  }

  private async addActive(): Promise<void> {
    for (const [n, { kind }] of this.spec.active.entries()) {
      const deduplication = kind === 'deduplicated' || kind === 'replaced' ? { deduplication: { id: `d${n}`, keepLastIfActive: kind === 'replaced' } } : {}
      await this.queue.add('a', { n }, { jobId: `a${n}`, ...deduplication })
    }
    for (const n of this.spec.active.keys()) {
      await this.backend.moveToActive(`token ${n}`, 'w')
      await this.prepare(n)
      this.jobs.push((await this.queue.getJob(`a${n}`)) ?? this.jobs[n - 1] ?? (await this.queue.add('none', {}, { jobId: 'none', delay: 1e9 })))
    }
  }

  private async prepare(n: number): Promise<void> {
    const id = `a${n}`
    const key = this.key(id)
    const { kind } = this.spec.active[n] as ActiveJob
    if (kind === 'replaced') await this.queue.add('b', { n }, { deduplication: { id: `d${n}`, keepLastIfActive: true } })
    if (kind === 'parent') await this.redis.sadd(`${key}:dependencies`, this.key('child'))
    if (kind === 'failed-child') await this.redis.zadd(`${key}:unsuccessful`, 1, this.key('child'))
    if (kind === 'no-lock') await this.redis.del(`${key}:lock`)
    if (kind === 'other-lock') await this.redis.set(`${key}:lock`, 'other', 'PX', LOCK_MS)
    if (kind === 'not-active') await this.redis.lrem(this.key('active'), 1, id)
    if (kind === 'child' || kind === 'orphan') {
      const parent = this.key(`p${n}`)
      await this.redis.hset(key, 'parentKey', parent, 'parent', JSON.stringify({ id: `p${n}`, queueKey: `${this.prefix}:q` }))
      if (kind === 'child') await this.addParent(`p${n}`, id)
    }
  }

  private async addParent(id: string, child: string): Promise<void> {
    const key = this.key(id)
    await this.redis.hset(key, 'name', 'parent', 'data', '{}', 'opts', '{}', 'timestamp', 1)
    await this.redis.multi().zadd(this.key('waiting-children'), 1, id).sadd(`${key}:dependencies`, this.key(child)).exec()
  }

  private async addWaiting(): Promise<void> {
    for (const [n, { kind }] of this.spec.waiting.entries()) {
      const opts = { jobId: `w${n}`, lifo: kind === 'lifo', delay: kind === 'due' ? 1 : kind === 'later' ? 3_600_000 : 0 }
      const priority = kind === 'urgent' ? 1 : kind === 'idle' ? 7 : undefined
      if (kind === 'old-marker') await this.redis.rpush(this.key('wait'), '0:5')
      else await this.queue.add('w', { n, text: 'é"\\/\u0000' }, { ...opts, ...(priority === undefined ? {} : { priority }) })
    }
    const added = Date.now()
    await until('delayed jobs are due', () => Date.now() > added + 2)
    // Only now, since BullMQ makes a job known to a client before its keys are changed.
    for (const [n, { kind }] of this.spec.active.entries()) if (kind === 'no-job') await this.redis.del(this.key(`a${n}`))
  }

  private async setMeta(): Promise<void> {
    const { meta, maxEvents } = this.spec
    if (maxEvents === undefined) await this.redis.hdel(this.key('meta'), 'opts.maxLenEvents')
    else await this.redis.hset(this.key('meta'), 'opts.maxLenEvents', maxEvents)
    if (meta === 'paused') await this.queue.pause()
    if (meta === 'concurrency') await this.queue.setGlobalConcurrency(this.spec.active.length)
    if (meta === 'rate') await this.queue.setGlobalRateLimit(2, 60_000)
  }
}

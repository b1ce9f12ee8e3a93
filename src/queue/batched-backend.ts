import { type BackendFactory, createRedisBackend, type RedisQueueBackend } from 'bullmq'
import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import { FinishBatcher, type FinishOptions } from './finish-batcher.js'

/** The versions of BullMQ that `lua/finish.lua` and `lua/promote.lua` do the work of, and that the tests compare them with. */
export const BATCHED_BULLMQ_VERSIONS: readonly string[] = ['6.7.0']

export function versionOfBackend(backend: RedisQueueBackend): string {
  return backend['version']
}

/** The loggers that were told of a BullMQ on which jobs are completed one by one. */
const told = new WeakSet<Logger>()

/** Whether jobs can be completed in batches on this version of BullMQ. Where they cannot, the log says so once. */
function isKnown(version: string, log: Logger): boolean {
  if (BATCHED_BULLMQ_VERSIONS.includes(version)) return true
  if (!told.has(log)) log.warn({ version, known: BATCHED_BULLMQ_VERSIONS }, 'jobs are completed one by one: batches are not tested with this version of BullMQ')
  told.add(log)
  return false
}

/**
 * BullMQ's backend for a worker, but that jobs which complete in one turn of the event loop are completed by one script (`FinishBatcher`). All else is
 * BullMQ's: failures, retries, locks, first jobs, schedulers.
 *
 * @param redis the connection of the worker, on which BullMQ's commands and these scripts keep their order
 * @param versionOf the version of BullMQ behind a backend; tests pretend another one
 */
export function batchedBackend(
  redis: Redis,
  log: Logger,
  options: FinishOptions,
  versionOf: (backend: RedisQueueBackend) => string = versionOfBackend,
): BackendFactory<RedisQueueBackend> {
  return (name, opts, kind) => {
    const backend = createRedisBackend(name, opts, kind)
    if (options.limiter === undefined && options.metrics === undefined && isKnown(versionOf(backend), log)) {
      const one: RedisQueueBackend['moveToCompleted'] = backend.moveToCompleted.bind(backend)
      const batcher = new FinishBatcher(redis, backend, options)
      backend.moveToCompleted = async (job, value, keep, token, fetchNext) =>
        (await batcher.finish(job, value, keep, token, fetchNext)) ?? (await one(job, value, keep, token, fetchNext))
    }
    return backend
  }
}

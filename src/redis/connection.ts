import { Redis } from 'ioredis'
import { ConfigInvalid, TollgateError } from '../model/errors.js'
import { show } from '../validation/faults.js'

/** What the command line and worker processes take where nobody says which. */
export const DEFAULT_URL = 'redis://localhost:6379'
// Commands wait for a connection that comes back instead of failing: what was accepted must not be lost.
const OPTIONS = { maxRetriesPerRequest: null, enableReadyCheck: true, lazyConnect: true, retryStrategy: (times: number) => Math.min(1000, times * 50) }

/** A URL for an error message: without what stands before its host and after its path, where passwords are. */
function withoutSecrets(url: string): string {
  return show(url.replace(/^([a-z]+:\/\/)?.*@/is, '$1…@').replace(/\?.*$/s, '?…'))
}

/** A connection from a URL (redis:// or rediss://), or the client that was given. */
export function connect(redis: string | Redis | undefined): { client: Redis; owned: boolean } {
  if (redis !== undefined && typeof redis !== 'string') {
    if (redis.options.maxRetriesPerRequest !== null) {
      throw new ConfigInvalid('redis: a client that is given must have maxRetriesPerRequest: null, or accepted calls could be lost when Redis restarts')
    }
    return { client: redis, owned: false }
  }
  const url = redis ?? process.env['REDIS_URL'] ?? DEFAULT_URL
  if (!/^rediss?:\/\/[^\s]+$/.test(url)) throw new ConfigInvalid(`redis must be a redis:// or rediss:// URL or an ioredis client (got ${withoutSecrets(url)})`)
  try {
    return { client: new Redis(url, OPTIONS), owned: true }
  } catch {
    // Its error quotes the URL, password and all.
    throw new ConfigInvalid(`redis is not a URL that can be read; are host, port and the password's %-escapes right? (got ${withoutSecrets(url)})`)
  }
}

/** Resolves once the server answers. @throws REDIS_UNAVAILABLE with its address */
export async function waitUntilReady(client: Redis, timeoutMs: number): Promise<void> {
  if (client.status === 'ready') return
  const where = `${client.options.host ?? 'localhost'}:${client.options.port ?? 6379}`
  await new Promise<void>((resolve, reject) => {
    let last: Error | undefined
    const timer = setTimeout(() => {
      done()
      reject(
        new TollgateError('REDIS_UNAVAILABLE', `Redis at ${where} did not answer within ${timeoutMs} ms${last ? ` (${last.message})` : ''}`, { cause: last }),
      )
    }, timeoutMs)
    const onReady = () => {
      done()
      resolve()
    }
    const onError = (error: Error) => {
      last = error
    }
    const done = () => {
      clearTimeout(timer)
      client.off('ready', onReady)
      client.off('error', onError)
    }
    client.on('ready', onReady)
    client.on('error', onError)
    if (client.status === 'wait') client.connect().catch(onError)
  })
}

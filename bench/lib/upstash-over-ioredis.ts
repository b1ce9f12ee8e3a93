import { createHash } from 'node:crypto'
import type { Redis as UpstashRedis } from '@upstash/redis'
import type { Redis } from 'ioredis'

type Client = Pick<UpstashRedis, 'eval' | 'evalsha' | 'get' | 'set'>

const sha1 = (text: string) => createHash('sha1').update(text).digest('hex')

/**
 * The client that @upstash/ratelimit needs, over a plain connection instead of HTTP: `evalsha`,
 * and `eval` where Redis does not know the script yet. Its scripts begin with a flag that only
 * Upstash's Redis knows; this client removes that line, and maps the hash of a script to that
 * of the text without it. The type has `get` and `set` too, which limits without analytics and
 * deny list never call.
 */
export function upstashOverIoredis(redis: Redis): Client {
  const hashes = new Map<string, string>()
  const plain = (args: readonly unknown[]) => args as readonly (string | number)[]
  const never = () => Promise.reject(new Error('the benchmark does without this command'))
  return {
    evalsha: async <TArgs extends unknown[], TData>(sha: string, keys: string[], args: TArgs) =>
      (await redis.evalsha(hashes.get(sha) ?? sha, keys.length, ...keys, ...plain(args))) as TData,
    eval: async <TArgs extends unknown[], TData>(script: string, keys: string[], args: TArgs) => {
      const portable = script.replace(/^#!lua .*\n/, '')
      hashes.set(sha1(script), sha1(portable))
      return (await redis.eval(portable, keys.length, ...keys, ...plain(args))) as TData
    },
    get: never,
    set: never,
  }
}

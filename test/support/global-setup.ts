import { execFileSync } from 'node:child_process'
import type { TestProject } from 'vitest/node'
import { startRedis } from './redis-server.js'

declare module 'vitest' {
  export interface ProvidedContext {
    redisUrl: string
  }
}

/** One Redis for all tests, each of which has a namespace of its own: the one of REDIS_URL, or one that starts and ends with the run. */
export default async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  // Worker processes run as users run them: compiled.
  execFileSync(process.execPath, ['scripts/run.mjs', 'build', 'modules'], { stdio: 'inherit' })
  const given = process.env['REDIS_URL']
  if (given !== undefined) {
    project.provide('redisUrl', given)
    return undefined
  }
  const server = await startRedis()
  project.provide('redisUrl', server.url)
  return () => server.stop()
}

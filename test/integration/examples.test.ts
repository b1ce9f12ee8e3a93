import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { type RedisServer, startRedis } from '../support/redis-server.js'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const EXAMPLES = readdirSync(join(ROOT, 'examples/docs')).map((file) => file.replace(/\.ts$/, ''))
const PAGES = [
  'README.md',
  ...readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' }).flatMap((file) => (file.endsWith('.md') ? [`docs/${file}`] : [])),
]
const TEXT = PAGES.map((page) => readFileSync(join(ROOT, page), 'utf8')).join('\n')
/** An example that waits for a call that never ends would hang. */
const LONGEST_MS = 30_000

// Examples open the default namespace: so they run on a Redis of their own.
let server: RedisServer
let redis: Redis
beforeAll(async () => {
  server = await startRedis()
  redis = new Redis(server.url)
})
afterAll(async () => {
  redis.disconnect()
  await server.stop()
})
beforeEach(() => redis.flushall())

/** The output of an example by the documentation: the block of text that follows it. */
function documentedOutput(name: string): string {
  const [, after] = TEXT.split(`\`\`\`ts\n// examples/docs/${name}.ts\n`)
  const [, output] = /^[\s\S]*?\n```\n(?:\nIt prints:\n)?\n```text\n([\s\S]*?)```\n/.exec(after ?? '') ?? []
  return output ?? expect.fail(`no output after examples/docs/${name}.ts`)
}

/** Runs an example as users run it: compiled, in a process of its own. */
async function run(name: string): Promise<{ code: number | null; printed: string; errors: string }> {
  const child = spawn(process.execPath, ['--enable-source-maps', join(ROOT, `dist/examples/docs/${name}.js`)], {
    env: { ...process.env, REDIS_URL: server.url },
    timeout: LONGEST_MS,
    killSignal: 'SIGKILL',
  })
  let printed = ''
  let errors = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    printed += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text
  })
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, printed, errors }
}

/** Keys without an end that an example may leave: the policy, and BullMQ's own. */
async function leftBehind(): Promise<string[]> {
  const ours = (await redis.keys('*')).filter((key) => key.includes('}/') && !key.endsWith('/rules'))
  const ends = await Promise.all(ours.map(async (key) => [key, await redis.pttl(key)] as const))
  return ends.filter(([, ttl]) => ttl === -1).map(([key]) => key)
}

test.each(EXAMPLES)('examples/docs/%s.ts prints what the documentation says, ends by itself and leaves no key without an end', async (name) => {
  const { code, printed, errors } = await run(name)
  expect({ code, printed }, errors).toEqual({ code: 0, printed: documentedOutput(name) })
  expect(await leftBehind()).toEqual([])
})

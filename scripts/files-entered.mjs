// npm run files-entered: the files of src that one call enters, at enqueue and in the worker.
//
// V8 counts how often each function is called (precise coverage), and the counts are set back
// between phases, so code that runs when a module is loaded does not count. A file is entered
// where at least one of its functions was called. A timer of the process may fire within a
// round; so a file counts where every one of several rounds enters it.
//
// The worker is measured in this process, and a child process enqueues its calls: both in one
// process could not be told apart.
import { fork } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { Session } from 'node:inspector/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { root } from './files.mjs'

const WARM_UP_CALLS = 20
const ROUNDS = 5
/** Time after a result for the work that the worker still does for its ended job. */
const SETTLE_MS = 100

const SOURCES = pathToFileURL(join(root, 'dist', 'src')).href
const RULES = [
  { name: 'agent', scope: 'agent', limits: [{ tokens: 1e9, per: 'minute' }, { concurrency: 100 }] },
  { name: 'user', scope: 'user', limits: [{ requests: 1e6, per: 'minute' }] },
]
const CALL = { agent: 'llm', user: 'alice', payload: { model: 'gpt-4o', messages: [{ role: 'user', content: 'Hello' }], max_tokens: 10 } }
const ANSWER = { usage: { prompt_tokens: 8, completion_tokens: 5, total_tokens: 13 } }

async function startCoverage() {
  const session = new Session()
  session.connect()
  await session.post('Profiler.enable')
  await session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: false })
  /** The files of src with a function that was called since the last time. */
  return async () => {
    const { result } = await session.post('Profiler.takePreciseCoverage')
    const entered = result.filter(({ url, functions }) => url.startsWith(SOURCES) && functions.some(({ ranges }) => ranges[0].count > 0))
    return entered.map(({ url }) => `src${url.slice(SOURCES.length).replace(/\.js$/, '.ts')}`)
  }
}

async function filesOf(takeFiles, one) {
  for (let call = 0; call < WARM_UP_CALLS; call++) await one()
  let common
  for (let round = 0; round < ROUNDS; round++) {
    await takeFiles()
    await one()
    const files = new Set(await takeFiles())
    common = common === undefined ? [...files] : common.filter((file) => files.has(file))
  }
  return common.sort()
}

async function open(namespace) {
  const { Tollgate } = await import(`${SOURCES}/index.js`)
  return Tollgate.open({ redis: process.env.REDIS_URL, namespace, rules: RULES })
}

/** In the child process: enqueues a call for every message 'enqueue', and sends 'done' when its result is there. */
async function enqueueOnMessage(namespace) {
  const tollgate = await open(namespace)
  process.on('message', async (message) => {
    if (message === 'end') {
      await tollgate.close()
      process.disconnect()
      return
    }
    const ticket = await tollgate.enqueue(CALL)
    await ticket.result()
    process.send('done')
  })
  process.send('open')
}

async function removeKeys(tollgate) {
  const { Redis } = await import('ioredis')
  const redis = new Redis(process.env.REDIS_URL)
  const pattern = `${tollgate.prefix.replace(/[{}]/g, '\\$&')}*`
  for await (const keys of redis.scanStream({ match: pattern, count: 1000 })) if (keys.length > 0) await redis.del(...keys)
  redis.disconnect()
}

async function measure() {
  const takeFiles = await startCoverage()
  const tollgate = await open(`files-entered-${randomUUID()}`)
  const atEnqueue = await filesOf(takeFiles, () => tollgate.enqueue(CALL))
  await tollgate.close()
  await removeKeys(tollgate)

  const namespace = `files-entered-${randomUUID()}`
  const working = await open(namespace)
  working.worker(async () => ANSWER)
  const child = fork(fileURLToPath(import.meta.url), [namespace])
  await once(child, 'message')
  const inWorker = await filesOf(takeFiles, async () => {
    child.send('enqueue')
    await once(child, 'message')
    await sleep(SETTLE_MS)
  })
  child.send('end')
  await once(child, 'exit')
  await working.close()
  await removeKeys(working)

  for (const [where, files] of Object.entries({ 'at enqueue': atEnqueue, 'in the worker': inWorker }))
    console.log(`${files.length} files ${where}\n${files.map((file) => `  ${file}`).join('\n')}`)
}

const [namespace] = process.argv.slice(2)
await (namespace === undefined ? measure() : enqueueOnMessage(namespace))

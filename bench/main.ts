import { open, writeFile } from 'node:fs/promises'
import { availableParallelism, constants } from 'node:os'
import { Redis } from 'ioredis'
import { burst } from './burst.js'
import { checks } from './checks.js'
import { cli } from './cli.js'
import { comeBackBench } from './come-back.js'
import { counting } from './counting.js'
import { dashboard } from './dashboard.js'
import { inMemory } from './in-memory.js'
import { lateSettlements } from './late-settlements.js'
import { learned } from './learned.js'
import { type BenchArguments, readArguments, usage } from './lib/arguments.js'
import { type Figure, notMeasured } from './lib/measure.js'
import { leaveAll } from './lib/namespace.js'
import { HEAD, row, table } from './lib/table.js'
import { memory } from './memory.js'
import { neighbour } from './neighbour.js'
import { outage } from './outage.js'
import { outageAdmit } from './outage-admit.js'
import { overhead } from './overhead.js'
import { overload } from './overload.js'
import { override } from './override.js'
import { peers } from './peers.js'
import { refused } from './refused.js'
import { rules } from './rules.js'
import { scale } from './scale.js'
import { serveBench } from './serve.js'
import { sick } from './sick.js'
import { topology } from './topology.js'
import { upstream } from './upstream.js'
import { waking } from './waking.js'

const BENCHES = {
  overload: async (redis: string) => [
    ...(await overload(redis, { calls: 20_000, perSecond: 500, burst: 10, enqueuedAt: Number.POSITIVE_INFINITY, utilisation: 0.98 })),
    ...(await overload(redis, { calls: 10_000, perSecond: 1000, burst: 50, enqueuedAt: 2, utilisation: 0.97 })),
  ],
  neighbour,
  overhead,
  checks,
  peers,
  burst,
  scale,
  memory,
  dashboard,
  refused,
  'come-back': comeBackBench,
  'in-memory': inMemory,
  upstream,
  override,
  learned,
  outage,
  'outage-admit': outageAdmit,
  'late-settlements': lateSettlements,
  serve: serveBench,
  sick,
  rules,
  waking,
  counting,
  cli,
  topology,
} satisfies Record<string, (redis: string, trace: string | undefined) => Promise<Figure[]>>
type Name = keyof typeof BENCHES
const NAMES = Object.keys(BENCHES) as Name[]
const CONNECT_MS = 5000

let stopping = false
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop(signal))
// The parent process, which started the Redis too, has died: end as when a terminal is closed.
process.once('disconnect', () => stop('SIGHUP'))
process.channel?.unref()

function stop(signal: NodeJS.Signals): void {
  if (stopping) return
  stopping = true
  const leave = () => process.exit(128 + constants.signals[signal])
  // Without Redis the cleaning up may hang.
  setTimeout(leave, CONNECT_MS)
  void leaveAll().then(leave, leave)
}

/** @throws Error where no Redis answers at the URL */
async function redisVersion(url: string): Promise<string> {
  const redis = new Redis(url, { lazyConnect: true, connectTimeout: CONNECT_MS, retryStrategy: () => null })
  redis.on('error', () => {})
  try {
    await redis.connect()
    return /redis_version:(\S+)/.exec(await redis.info('server'))?.[1] ?? 'unknown'
  } catch (error) {
    throw new Error(`the Redis at REDIS_URL does not answer: ${error instanceof Error ? error.message : error}`)
  } finally {
    redis.disconnect()
  }
}

/** @throws Error that names the argument */
async function mustBeWritable(file: string): Promise<void> {
  try {
    await (await open(file, 'a')).close()
  } catch (error) {
    throw new Error(`--json: ${error instanceof Error ? error.message : error}`)
  }
}

async function measure(name: Name, redis: string, trace: string | undefined): Promise<Figure[]> {
  try {
    return await BENCHES[name](redis, trace)
  } catch (error) {
    if (!stopping) console.error(error)
    return [notMeasured(name, '-', error instanceof Error ? error.message : String(error))]
  }
}

async function bench({ names, json, trace }: BenchArguments<Name>, url: string): Promise<boolean> {
  // Fails before minutes of measuring, not after.
  if (json !== undefined && json !== '-') await mustBeWritable(json)
  const about = { node: process.version, redis: await redisVersion(url), cpus: availableParallelism(), date: new Date().toISOString() }
  // With --json - the standard output has the JSON alone.
  const print = json === '-' ? console.error : console.log
  print(`Node ${about.node}, Redis ${about.redis}, ${about.cpus} CPUs\n\n${HEAD}`)
  const figures: Figure[] = []
  for (const name of names) {
    const of = await measure(name, url, trace)
    if (stopping) return false
    figures.push(...of)
    for (const figure of of) print(row(figure))
  }
  print(`\n${table(figures)}`)
  const report = `${JSON.stringify({ ...about, figures }, null, 2)}\n`
  if (json === '-') process.stdout.write(report)
  else if (json !== undefined) await writeFile(json, report)
  return figures.every(({ ok }) => ok)
}

async function main(): Promise<number> {
  const url = process.env['REDIS_URL'] ?? ''
  let given: BenchArguments<Name> | 'help'
  try {
    given = readArguments(process.argv.slice(2), NAMES)
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n${usage(NAMES)}`)
    return 1
  }
  if (given === 'help') {
    console.log(usage(NAMES))
    return 0
  }
  if (url === '') {
    console.error('REDIS_URL is not set: `npm run bench` starts a Redis and sets it')
    return 1
  }
  return (await bench(given, url)) ? 0 : 1
}

try {
  const code = await main()
  // A benchmark that failed may have left connections open. A signal brings its own exit code.
  if (!stopping) process.exit(code)
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  if (!stopping) process.exit(1)
}

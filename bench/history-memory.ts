import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { NUMBER, type Numbers } from '../src/history/point.js'
import { RedisSeries } from '../src/history/redis-series.js'
import { SERIES, TOP, TOP_SIZE } from '../src/history/series.js'
import { GivenClock, HOUR, MINUTE } from '../src/model/time.js'
import { Keys } from '../src/redis/keys.js'

// What the history of one rule and its lines takes in Redis after 30 days in which every minute is full.

const DAYS = 30
const LIMITS = ['requests/minute', 'tokens/minute', 'usd/day']

function busyMinute(random: () => number): Numbers {
  const some = (most: number) => Math.ceil(random() * most)
  const numbers: Numbers = new Map([
    [NUMBER.arrived, some(9000)],
    [NUMBER.started, some(9000)],
    [NUMBER.done, some(9000)],
    [NUMBER.failed, some(90)],
    [NUMBER.refused, some(90)],
    [NUMBER.expired, some(90)],
    [NUMBER.returned, some(90)],
    [NUMBER.estimatedTokens, some(9e6)],
    [NUMBER.tokens, some(9e6)],
    [NUMBER.usd, some(9000) / 100],
    [NUMBER.waiting, some(9e5)],
    [NUMBER.deepest, some(900)],
    [NUMBER.oldestMs, some(90_000)],
  ])
  for (let bucket = 0; bucket < 12; bucket++) numbers.set(`${NUMBER.waitBucket}${30 + bucket}`, some(900))
  for (const limit of LIMITS) numbers.set(NUMBER.waitingOf + limit, some(9e5))
  return numbers
}

const redis = new Redis(process.env['REDIS_URL'] ?? 'redis://localhost:6379')
const keys = new Keys(`history-memory-${randomUUID().slice(0, 8)}`)
const clock = new GivenClock(Date.UTC(2030, 0, 1))
const series = new RedisSeries(redis, keys, clock)
const lines = Array.from({ length: TOP_SIZE.line }, (_, n) => `account/organisation-${n}`)
for (let minute = 0; minute < DAYS * 24 * 60; minute++) {
  // Of days before the last the hours alone remain: twelve minutes of each hour make as long a point.
  if (minute < (DAYS - 1.1) * 24 * 60 && minute % 5 !== 0) {
    clock.advance(MINUTE)
    continue
  }
  const numbers = busyMinute(Math.random)
  const line: Numbers = new Map([...numbers].filter(([name]) => [NUMBER.waiting, NUMBER.deepest, NUMBER.oldestMs, NUMBER.started].includes(name as 's')))
  const orgs: Numbers = new Map(Array.from({ length: 6 }, (_, org) => [`${NUMBER.waitingBy}organisation-${org}`, Math.ceil(Math.random() * 9e5)]))
  const entries = [[SERIES.rule('account'), numbers] as const, ...lines.map((name) => [SERIES.line(name), line] as const)]
  await series.add({
    series: [
      ...entries.map(([name, of]) => ({ name, resolutions: ['m', 'h'] as const, numbers: of })),
      { name: SERIES.rule('account'), resolutions: ['h'], numbers: orgs },
    ],
    tops: [{ list: TOP.lines('account'), size: TOP_SIZE.line, counts: new Map(lines.map((name) => [name, 10])), seriesOf: SERIES.line }],
  })
  clock.advance(MINUTE)
}
const bytesOf = async (name: string) => Number(await redis.call('MEMORY', 'USAGE', keys.series(name), 'SAMPLES', '0'))
const rule = await bytesOf(SERIES.rule('account'))
const ofLines = await Promise.all(lines.map((name) => bytesOf(SERIES.line(name))))
const all = rule + ofLines.reduce((sum, bytes) => sum + bytes, 0)
console.log(
  JSON.stringify({
    ruleBytes: rule,
    lineBytes: ofLines[0],
    lines: lines.length,
    ruleAndLinesBytes: all,
    days: DAYS,
    hours: (clock.nowMs - Date.UTC(2030, 0, 1)) / HOUR,
  }),
)
await redis.del(...lines.map((name) => keys.series(SERIES.line(name))), keys.series(SERIES.rule('account')), keys.top(TOP.lines('account')))
redis.disconnect()

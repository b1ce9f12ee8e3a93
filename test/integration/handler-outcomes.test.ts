import { Queue, UnrecoverableError, Worker } from 'bullmq'
import { pino } from 'pino'
import { expect, onTestFinished, test } from 'vitest'
import { type CallContext, type RuleSpec, type Tollgate, UpstreamLimited } from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'
import { usedBy } from '../support/place.js'
import { until } from '../support/until.js'

const RULES: RuleSpec[] = [
  { name: 'day', scope: 'org', limits: [{ requests: 1000, per: 'day', algorithm: 'fixed_window' }] },
  { name: 'slot', scope: 'agent', limits: [{ concurrency: 1 }] },
]
const CALL = { agent: 'a', org: 'o' }

interface Ran {
  tollgate: Tollgate
  runs: () => number
  ended: string[]
}

async function running(handler: (run: number, context: CallContext) => unknown, observer: object = {}, options: object = {}): Promise<Ran> {
  const tollgate = await newNamespace().open({ rules: RULES, attempts: 3, ...options })
  let count = 0
  const ended: string[] = []
  tollgate.worker(async (_call, context) => handler(++count, context), { observer: { ended: (_call, how) => void ended.push(how), ...observer } })
  return { tollgate, runs: () => count, ended }
}

async function outcome(tollgate: Tollgate): Promise<string> {
  return (await tollgate.enqueue(CALL)).result().then(
    (value) => `returned ${JSON.stringify(value)}`,
    (error: Error & { code?: string }) => `${error.code}: ${error.message}`,
  )
}

/** Until the ledger is closed and no slot is held. */
async function untilOver(tollgate: Tollgate): Promise<void> {
  await until('every charge is settled', async () => (await tollgate.stats.ledger()).open === 0)
  await until('the slot is free', async () => (await tollgate.gate.peek(CALL)).allowed)
}

const circular: Record<string, unknown> = {}
circular['self'] = circular

test.each<[string, unknown, RegExp]>([
  ['a circle', circular, /^CALL_FAILED: the handler returned what JSON cannot hold \(Converting circular structure/],
  ['a bigint', { rows: 10n }, /^CALL_FAILED: the handler returned what JSON cannot hold \(.*BigInt/],
  ['a function', () => 1, /^CALL_FAILED: the handler returned what JSON cannot hold \(it is a function\)/],
  ['a symbol', Symbol('x'), /^CALL_FAILED: the handler returned what JSON cannot hold \(it is a symbol\)/],
  [
    'a toJSON that throws',
    {
      toJSON: () => {
        throw new Error('no json')
      },
    },
    /^CALL_FAILED: .*\(no json\)/,
  ],
  [
    '2 MB',
    { text: 'x'.repeat(2_000_000), usage: { requests: 7 } },
    /^CALL_FAILED: the result has 20000\d\d bytes as JSON, and may have 1000000 \(maxResultBytes\)/,
  ],
])('a result of %s is one failure, settled, without a further attempt', async (_name, result, message) => {
  const { tollgate, runs, ended } = await running(() => result)
  expect(await outcome(tollgate)).toMatch(message)
  await untilOver(tollgate)
  expect([runs(), ended]).toEqual([1, ['failed']])
  expect(await usedBy(tollgate, CALL)).toBe(_name === '2 MB' ? 7 : 1)
})

const unreadable = () =>
  Object.defineProperties(new Error('x'), {
    message: {
      get: () => {
        throw new Error('no message')
      },
    },
    status: {
      get: () => {
        throw new Error('no status')
      },
    },
  })

test.each<[string, () => unknown, RegExp]>([
  ['null', () => null, /^CALL_FAILED: null was thrown/],
  ['undefined', () => undefined, /^CALL_FAILED: undefined was thrown/],
  ['a text', () => 'no', /^CALL_FAILED: "no" was thrown/],
  ['an object with a message', () => ({ message: 'quota' }), /^CALL_FAILED: quota$/],
  // biome-ignore lint/suspicious/noThenProperty: what this test is about
  ['a thenable', () => ({ then: () => 7 }), /^CALL_FAILED: \{\} was thrown/],
  [
    'an error of 3 MB',
    () => Object.assign(new Error('x'.repeat(3_000_000)), { stack: 'y'.repeat(1_000_000) }),
    /^CALL_FAILED: x{2000}… \(3000000 characters\)$/,
  ],
  [
    'an error that causes itself',
    () => {
      const error = new Error('circle')
      error.cause = error
      return error
    },
    /^CALL_FAILED: circle$/,
  ],
  ['an error whose getters throw', unreadable, /^CALL_FAILED: .* was thrown, which is no error/],
  ['an error with the credentials of a URL', () => new Error('cannot reach https://user:hunter2@host/x'), /^CALL_FAILED: cannot reach https:\/\/…@host\/x$/],
])('a handler that throws %s fails with a readable, bounded reason', async (_name, thrown, message) => {
  const { tollgate, runs, ended } = await running(
    () => {
      throw thrown()
    },
    {},
    { attempts: 1 },
  )
  expect(await outcome(tollgate)).toMatch(message)
  await untilOver(tollgate)
  expect([runs(), ended]).toEqual([1, ['failed']])
})

test.each<[string, unknown]>([
  [
    'whose get throws',
    {
      get: () => {
        throw new Error('hdr')
      },
    },
  ],
  ['whose get returns a number', { get: () => 0 }],
  ['that are a text', 'retry-after: 5'],
  [
    'that are a proxy which refuses',
    new Proxy(
      {},
      {
        has: () => {
          throw new Error('no')
        },
        ownKeys: () => {
          throw new Error('no')
        },
      },
    ),
  ],
])('a refusal with headers %s returns to its line, and with a time that is none it waits a second', async (_name, headers) => {
  const { tollgate, runs, ended } = await running((run) => {
    if (run > 2) return 'ok'
    throw run === 1
      ? Object.assign(new Error('z'), { status: 429, retryAfterMs: Number.NaN, headers })
      : new UpstreamLimited({ retryAfterMs: 'soon' as never, headers: headers as never })
  })
  expect(await outcome(tollgate)).toBe('returned "ok"')
  await untilOver(tollgate)
  expect([runs(), ended]).toEqual([3, ['returned', 'returned', 'done']])
  expect(await usedBy(tollgate, CALL)).toBe(1)
})

test('an observer and a logger that throw, at once or later, neither fail a call nor skip its settlement', async () => {
  const broken = () => {
    throw new Error('metrics are down')
  }
  const logger = pino({ level: 'silent' })
  for (const level of ['error', 'warn', 'info', 'debug'] as const) logger[level] = broken
  for (const observer of [
    { started: broken, ended: broken },
    { started: async () => broken(), ended: async () => broken() },
  ]) {
    const { tollgate } = await running(() => ({ usage: { seconds: 1 } }), observer, { logger })
    expect(await outcome(tollgate)).toMatch(/^returned/)
    await untilOver(tollgate)
    expect(await usedBy(tollgate, CALL)).toBe(1)
  }
})

test("BullMQ's RateLimitError is a refusal: the call waits as long as the queue was limited, uncharged and without an attempt", async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES, attempts: 1 })
  const queue = new Queue(tollgate.queue, { connection: { url: namespace.url }, prefix: tollgate.prefix })
  onTestFinished(() => queue.close())
  const at: number[] = []
  tollgate.worker(async (_call, { attempt }) => {
    at.push(performance.now())
    if (at.length === 1) await queue.rateLimit(1500)
    if (at.length < 3) throw Worker.RateLimitError()
    return attempt
  })
  expect(await outcome(tollgate)).toBe('returned 1')
  await untilOver(tollgate)
  expect(at).toHaveLength(3)
  expect((at[1] as number) - (at[0] as number)).toBeGreaterThan(1400)
  expect((at[2] as number) - (at[1] as number)).toBeGreaterThan(900)
  expect(await usedBy(tollgate, CALL)).toBe(1)
})

test("BullMQ's UnrecoverableError fails the call without a further attempt, and keeps its charge", async () => {
  const { tollgate, runs } = await running(() => {
    throw new UnrecoverableError('for good')
  })
  expect(await outcome(tollgate)).toBe('CALL_FAILED: for good')
  await untilOver(tollgate)
  expect([runs(), await usedBy(tollgate, CALL)]).toEqual([1, 1])
})

test.each(['DelayedError', 'WaitingError', 'WaitingChildrenError'])(
  'a handler that has put its job elsewhere (%s) is not charged for that run',
  async (name) => {
    const namespace = newNamespace()
    const tollgate = await namespace.open({ rules: RULES, attempts: 1 })
    const queue = new Queue(tollgate.queue, { connection: { url: namespace.url }, prefix: tollgate.prefix })
    onTestFinished(() => queue.close())
    let runs = 0
    tollgate.worker(async (_call, { id }) => {
      if (++runs > 1) return 'ok'
      const job = await queue.getJob(id)
      const token = (await namespace.redis.get(`${queue.toKey(id)}:lock`)) ?? ''
      await job?.moveToDelayed(Date.now() + 10, token)
      throw Object.assign(new Error('elsewhere'), { name })
    })
    expect(await outcome(tollgate)).toBe('returned "ok"')
    await untilOver(tollgate)
    expect([runs, await usedBy(tollgate, CALL)]).toEqual([2, 1])
    expect(await tollgate.stats.ledger()).toMatchObject({ released: 0, open: 0 })
  },
)

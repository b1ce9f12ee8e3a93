import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import type { CallContext, PriceTable, RuleSpec, Tollgate } from '../../src/index.js'
import { startAgent } from '../support/http-agent.js'
import { newNamespace } from '../support/namespace.js'
import { codeOf, usedBy } from '../support/place.js'
import { until } from '../support/until.js'
import { WorkerProcess } from '../support/worker-process.js'

const RULES: RuleSpec[] = [{ name: 'r', scope: 'agent', limits: [{ tokens: 10_000, per: 'day', algorithm: 'fixed_window' }, { concurrency: 5 }] }]
const CALL = { agent: 'llm', cost: { tokens: 100 } }

/** Waits until every call is settled. @returns what is used of the limit then */
async function charged(tollgate: Tollgate, limit = 'tokens/day', call: Parameters<typeof usedBy>[1] = CALL): Promise<number | undefined> {
  await until('it is settled', async () => (await tollgate.stats.ledger()).open === 0)
  return usedBy(tollgate, call, limit)
}

async function withHandler(handler: (context: CallContext) => Promise<unknown>, options: { timeoutMs?: number } = {}): Promise<Tollgate> {
  const tollgate = await newNamespace().open({ rules: RULES })
  tollgate.worker((_call, context) => handler(context), options)
  return tollgate
}

test('a stream that settles parts is charged at once beyond its estimate, and at its end its usage', async () => {
  const seen: (number | undefined)[] = []
  const tollgate = await withHandler(async (context) => {
    for (const tokens of [40, 150, 220, 180]) {
      await context.settlePart({ tokens })
      seen.push(await usedBy(tollgate, CALL, 'tokens/day'))
    }
    return { usage: { inputTokens: 100, outputTokens: 130 } }
  })
  await (await tollgate.enqueue(CALL)).result()
  expect(seen).toEqual([100, 150, 220, 220])
  expect(await charged(tollgate)).toBe(230)
})

test.each([
  ['more than its estimate', 170],
  ['less than its estimate', 40],
  ['just its estimate', 100],
])('a stream that breaks off has cost what it said last: %s', async (_what, tokens) => {
  const tollgate = await withHandler(async (context) => {
    await context.settlePart({ tokens: 10 })
    await context.settlePart({ tokens })
    throw new Error('connection reset')
  })
  expect(await codeOf((await tollgate.enqueue(CALL)).result())).toBe('CALL_FAILED')
  expect(await charged(tollgate)).toBe(tokens)
})

test.each<[string, () => unknown]>([
  ['undefined', () => undefined],
  ['null', () => null],
  ['a text', () => 'out of paper'],
  ['a number', () => 0],
  ['an object', () => ({ a: 1 })],
  ['a symbol', () => Symbol('s')],
  ['a function', () => () => {}],
  ['an object without a prototype', () => Object.assign(Object.create(null), { message: 5 })],
])('a handler that throws %s fails the call, once, and says what was thrown', async (_what, thrown) => {
  const tollgate = await withHandler(async () => {
    throw thrown()
  })
  const failure = await (await tollgate.enqueue(CALL)).result().then(
    () => undefined,
    (error: unknown) => error,
  )
  expect(failure).toMatchObject({ code: 'CALL_FAILED', message: expect.stringMatching(/was thrown, which is no error$/) })
  expect(await charged(tollgate)).toBe(100)
})

test('a stream whose final usage equals its estimate costs that, whatever its parts were', async () => {
  const tollgate = await withHandler(async (context) => {
    await context.settlePart({ tokens: 400 })
    return { usage: { tokens: 100 } }
  })
  await (await tollgate.enqueue(CALL)).result()
  expect(await charged(tollgate)).toBe(100)
})

test('a cancelled stream costs its last part, and parts settled later do not count', async () => {
  const late: Promise<void>[] = []
  const tollgate = await withHandler(async (context) => {
    await context.settlePart({ tokens: 170 })
    await sleep(60_000, undefined, { signal: context.signal }).catch(() => {})
    late.push(charged(tollgate).then(() => context.settlePart({ tokens: 900 })))
  })
  const ticket = await tollgate.enqueue(CALL)
  await until('the first part is settled', async () => (await usedBy(tollgate, CALL, 'tokens/day')) === 170)
  const result = codeOf(ticket.result())
  expect(await tollgate.cancel(ticket.id)).toBe(true)
  expect(await result).toBe('CALL_CANCELLED')
  await until('it has settled another part', () => late.length > 0)
  await Promise.all(late)
  expect(await charged(tollgate)).toBe(170)
  expect(await usedBy(tollgate, CALL, 'concurrency')).toBe(0)
})

test.each([true, false])(
  'a cancelled stream whose last part is below its estimate costs that part if its handler heeds the signal (%s), else its estimate',
  async (heeds) => {
    let end = () => {}
    const tollgate = await withHandler(async (context) => {
      await context.settlePart({ tokens: 40 })
      await new Promise<void>((resolve) => {
        end = resolve
        if (heeds) context.signal.addEventListener('abort', () => resolve())
      })
      context.signal.throwIfAborted()
    })
    const ticket = await tollgate.enqueue(CALL)
    await until('it runs', async () => (await usedBy(tollgate, CALL, 'concurrency')) === 1)
    const result = codeOf(ticket.result())
    expect(await tollgate.cancel(ticket.id)).toBe(true)
    expect(await result).toBe('CALL_CANCELLED')
    expect(await charged(tollgate)).toBe(heeds ? 40 : 100)
    end()
    await until('its slot is back', async () => (await usedBy(tollgate, CALL, 'concurrency')) === 0)
    expect(await charged(tollgate)).toBe(heeds ? 40 : 100)
  },
)

test('a stream that exceeds its timeout costs its last part', async () => {
  const tollgate = await withHandler(
    async (context) => {
      await context.settlePart({ tokens: 120 })
      await new Promise(() => {})
    },
    { timeoutMs: 300 },
  )
  expect(await codeOf((await tollgate.enqueue(CALL)).result())).toBe('CALL_TIMED_OUT')
  expect(await charged(tollgate)).toBe(120)
})

test('a handler that returns no usage costs the estimate', async () => {
  const tollgate = await withHandler(async () => 'done')
  await (await tollgate.enqueue(CALL)).result()
  expect(await charged(tollgate)).toBe(100)
  expect(await usedBy(tollgate, CALL, 'concurrency')).toBe(0)
})

test('dollars are settled by the prices of the model, cached input at its own price', async () => {
  const rules: RuleSpec[] = [{ name: 'money', scope: 'agent', limits: [{ usd: 10, per: 'day', algorithm: 'fixed_window' }] }]
  const prices: PriceTable = { 'small-*': { input: 2, cachedInput: 0.5, output: 8 } }
  const tollgate = await newNamespace().open({ rules, prices })
  tollgate.worker(async () => ({ usage: { prompt_tokens: 1_000_000, completion_tokens: 100_000, prompt_tokens_details: { cached_tokens: 600_000 } } }))
  const call = { agent: 'llm', model: 'small-1', cost: { inputTokens: 1_000_000, outputTokens: 500_000 } }
  const ticket = await tollgate.enqueue(call)
  // 2 for the input and 4 for the output.
  expect(ticket.decision?.usage[0]).toMatchObject({ unit: 'usd', claimed: 6 })
  await ticket.result()
  // 400,000 of input at 2, 600,000 at 0.5, 100,000 of output at 8.
  expect(await charged(tollgate, 'usd/day', call)).toBeCloseTo(0.8 + 0.3 + 0.8, 9)
})

test('a worker that is killed leaves its estimate charged; its slot comes back, and the next worker is charged anew', async () => {
  const namespace = newNamespace()
  const agent = await startAgent((response, count) => {
    if (count > 1) response.end('{"usage":{"prompt_tokens":7,"completion_tokens":3}}')
  })
  const folder = await mkdtemp(join(tmpdir(), 'tollgate-test-'))
  const rules = join(folder, 'rules.yaml')
  await writeFile(
    rules,
    `rules:
  - { name: r, scope: agent, limits: [{ tokens: 1000, per: day, algorithm: fixed_window }, { concurrency: 1, lease: 1s }] }
agents: { llm: { baseUrl: '${agent.url}' } }
`,
  )
  const flags = { rules, redis: namespace.url, namespace: namespace.name, 'lease-ms': 1000 }
  const workers = [new WorkerProcess(flags)]
  onTestFinished(async () => {
    await Promise.all(workers.map((worker) => worker.end('SIGKILL')))
    await rm(folder, { recursive: true })
  })
  await until('it takes calls', () => workers[0]?.takesCalls === true)
  const tollgate = await namespace.open()
  const ticket = await tollgate.enqueue({ agent: 'llm', cost: { tokens: 70 } })
  await until('the call is at its agent', () => agent.requests.length === 1)
  await workers[0]?.end('SIGKILL')
  await until('its slot is back', async () => (await usedBy(tollgate, { agent: 'llm', cost: { tokens: 0 } }, 'concurrency')) === 0)
  expect(await usedBy(tollgate, { agent: 'llm', cost: { tokens: 0 } }, 'tokens/day')).toBe(70)
  expect(await tollgate.stats.ledger()).toMatchObject({ open: 1, settled: 0 })
  workers.push(new WorkerProcess(flags))
  expect(await ticket.result()).toMatchObject({ status: 200 })
  await until('it is settled', async () => (await tollgate.stats.ledger()).settled === 1)
  expect(await usedBy(tollgate, { agent: 'llm', cost: { tokens: 0 } }, 'tokens/day')).toBe(80)
  expect(await tollgate.stats.ledger()).toMatchObject({ open: 1, settled: 1 })
  expect(await workers[1]?.end('SIGTERM')).toBe(0)
})

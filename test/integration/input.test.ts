import { expect, test } from 'vitest'
import { type Call, CallInvalid, type RuleSpec, type Tollgate } from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'
import { newPlace, PLACES } from '../support/place.js'

const PER_USER: RuleSpec[] = [{ name: 'u', scope: 'user', limits: [{ requests: 1, per: 'hour' }] }]

async function refusal(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'accepted',
    (error: unknown) => (error instanceof CallInvalid ? error.message : String(error)),
  )
}

test('one object that is used again for other calls is as many calls as it was enqueued', async () => {
  const tollgate = await newNamespace().open({ rules: PER_USER })
  const seen: unknown[] = []
  const call = { agent: 'a', user: '', keys: { k: '' }, payload: { text: '', deep: { n: 0 } } }
  const tickets = ['u1', 'u2', 'u3'].map((user, n) => {
    Object.assign(call, { user })
    call.keys.k = user
    call.payload.text = user
    call.payload.deep.n = n
    return tollgate.enqueue(call)
  })
  const many = Array.from({ length: 120 }, (_, n): Call => ({ agent: 'a', user: `m${n}`, payload: { text: `m${n}` } }))
  const bulk = tollgate.enqueueMany(many)
  for (const one of [call, ...many]) Object.assign(one, { user: 'changed', payload: 'changed' })
  tollgate.worker(async ({ user, keys, payload }) => void seen.push([user, keys?.['k'], payload]))
  const accepted = [...(await Promise.all(tickets)), ...(await bulk)]
  expect(accepted.map(({ decision }) => decision?.outcome)).toEqual(Array(123).fill('run'))
  await Promise.all(accepted.map((ticket) => ticket.result()))
  const byUser = seen.sort()
  expect(byUser.slice(-3)).toEqual([
    ['u1', 'u1', { text: 'u1', deep: { n: 0 } }],
    ['u2', 'u2', { text: 'u2', deep: { n: 1 } }],
    ['u3', 'u3', { text: 'u3', deep: { n: 2 } }],
  ])
  expect(byUser.slice(0, 120).every((one) => (one as [string, unknown, { text: string }])[0] === (one as [string, unknown, { text: string }])[2].text)).toBe(
    true,
  )
})

test.each(PLACES)('at the gate too, with and without an estimate: in %s', async (place) => {
  const tokens: RuleSpec = { name: 't', scope: 'agent', limits: [{ tokens: 1e9, per: 'day' }] }
  for (const rules of [PER_USER, [...PER_USER, tokens]]) {
    const tollgate = await newPlace(place).open({ rules })
    const call = { agent: 'a', user: '', payload: { input: 'hello' } }
    const grants = ['u1', 'u2', 'u3'].map((user) => tollgate.gate.admit(Object.assign(call, { user })))
    Object.assign(call, { user: 'changed' })
    const answers = await Promise.all(grants)
    expect(answers.map(({ allowed }) => allowed)).toEqual([true, true, true])
    expect(answers.map(({ usage }) => usage.find(({ rule }) => rule === 'u')?.scopeValue)).toEqual(['u1', 'u2', 'u3'])
  }
})

test.each([[undefined], [null], [{ agent: 'a' }], ['calls'], [5]])('enqueueMany of %j, which is no list, is refused', async (input) => {
  const tollgate = await newNamespace().open({ rules: PER_USER })
  expect(await refusal(tollgate.enqueueMany(input as unknown as Call[]))).toMatch(/^calls: must be a list of calls \(got /)
  expect(await tollgate.enqueueMany([])).toEqual([])
})

test('a payload that JSON cannot hold, is nested too deeply or above the bound is refused, and the others are enqueued', async () => {
  const tollgate = await newNamespace().open({ rules: PER_USER, maxPayloadBytes: 1000 })
  let deep: unknown = 'x'
  for (let n = 0; n < 100_000; n++) deep = [deep]
  const circular: Record<string, unknown> = {}
  circular['self'] = circular
  const payloads = [circular, 10n, () => 1, Symbol('s'), deep, 'x'.repeat(999), 'x'.repeat(998), { text: 'é'.repeat(600) }, undefined]
  const tickets = await tollgate.enqueueMany(payloads.map((payload, n) => ({ agent: 'a', user: `u${n}`, payload })))
  expect(tickets.map(({ error }) => error?.message.split('\n')[0] ?? 'accepted')).toEqual([
    expect.stringMatching(/^payload: must be something that JSON can hold \(Converting circular/),
    expect.stringMatching(/^payload: must be something that JSON can hold \(.*BigInt/),
    'payload: must be something that JSON can hold (it is a function)',
    'payload: must be something that JSON can hold (it is a symbol)',
    'payload: must be something that JSON can hold (it is nested too deeply)',
    'payload: may have 1000 bytes as JSON, the maxPayloadBytes of this Tollgate (got 1001 bytes)',
    'accepted',
    'payload: may have 1000 bytes as JSON, the maxPayloadBytes of this Tollgate (got 1211 bytes)',
    'accepted',
  ])
  await tollgate.cancel(tickets[6]?.id ?? '')
  await tollgate.cancel(tickets[8]?.id ?? '')
})

test('COST_TOO_BIG says what the call costs, how that was estimated, and what the limit can hold', async () => {
  const rules: RuleSpec[] = [{ name: 'tpm', scope: 'agent', limits: [{ tokens: 1000, per: 'minute' }] }]
  const prices = { m: { input: 10, output: 10 } }
  const tollgate = await newNamespace().open({ rules })
  const where = '(rule tpm, limit tokens/minute, a)'
  const of = (one: Tollgate, call: object) =>
    one.enqueue({ agent: 'a', ...call }).then(
      () => 'accepted',
      ({ code, message }: { code: string; message: string }) => `${code}: ${message}`,
    )
  const held = 'more than the 1000 that this limit can ever hold'
  expect(await of(tollgate, { cost: { tokens: 5000 } })).toBe(`COST_TOO_BIG: the call costs 5000 tokens (as its cost says), ${held} ${where}`)
  expect(await of(tollgate, { payload: { messages: [{ content: 'hello' }], max_tokens: 2000 } })).toBe(
    `COST_TOO_BIG: the call costs 2007 tokens (estimated from its payload: 7 to read, 2000 at most to answer), ${held} ${where}`,
  )
  const own = await newNamespace().open({ rules, estimate: () => 3000 })
  expect(await of(own, {})).toBe(`COST_TOO_BIG: the call costs 3000 tokens (estimated by the option estimate), ${held} ${where}`)
  const priced = await newNamespace().open({ rules: [{ name: 'usd', scope: 'agent', limits: [{ usd: 0.001, per: 'minute' }] }], prices })
  expect(await of(priced, { model: 'm', payload: 'x' })).toMatch(
    /^COST_TOO_BIG: the call costs 0\.0\d+ usd \(estimated by its tokens and the price of its model\), more than the 0\.001 that/,
  )
  const limiter = tollgate.limiter({ requests: 5, per: 'minute' })
  await expect(limiter.checkOrThrow('k', 50)).rejects.toThrow(/costs more than the 5 that this limit can ever hold/)
})

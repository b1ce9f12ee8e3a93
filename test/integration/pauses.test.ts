import { Queue } from 'bullmq'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { Pause, RuleSpec } from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'
import { codeOf, newPlace, PLACES } from '../support/place.js'
import { until } from '../support/until.js'

const RULES: RuleSpec[] = [
  { name: 'account', scope: 'agent', strategy: 'hard', limits: [{ requests: 100, per: 'day' }] },
  { name: 'gold', scope: 'user', match: { orgs: ['gold'] }, limits: [{ requests: 100, per: 'day' }] },
]

describe.each(PLACES)('in %s', (place) => {
  test('a paused call is refused with the reason paused, and nothing is charged', async () => {
    const tollgate = await newPlace(place).open({ rules: RULES })
    expect(await tollgate.pause({ agent: 'llm' }, { by: 'ops', reason: 'the provider is down' })).toBe(true)
    expect(await tollgate.pause({ agent: 'llm' })).toBe(false)
    const grant = await tollgate.gate.admit({ agent: 'llm' })
    expect(grant).toMatchObject({ allowed: false, limitExceeded: '~pause.agent/paused', retryAfterMs: null })
    expect(grant.decision).toMatchObject({ outcome: 'reject', reason: 'paused' })
    expect(grant.usage.map(({ used }) => used)).toEqual([0])
    expect((await tollgate.gate.peek({ agent: 'llm' })).allowed).toBe(false)
    expect(await tollgate.gate.tryAcquire({ agent: 'llm' })).toBeNull()
    expect((await tollgate.gate.admit({ agent: 'other' })).allowed).toBe(true)
    expect(tollgate.paused()).toMatchObject([{ for: { agent: 'llm' }, by: 'ops', reason: 'the provider is down' }])
    expect(await tollgate.resume({ agent: 'llm' }, { by: 'ops' })).toBe(true)
    expect(await tollgate.resume({ agent: 'llm' })).toBe(false)
    expect((await tollgate.gate.admit({ agent: 'llm' })).allowed).toBe(true)
    expect(tollgate.paused()).toEqual([])
  })

  test('acquire waits until the call is resumed', async () => {
    const tollgate = await newPlace(place).open({ rules: RULES })
    await tollgate.pause({ user: 'alice' })
    const waiting = tollgate.gate.acquire({ agent: 'llm', user: 'alice' })
    expect((await tollgate.gate.acquire({ agent: 'llm', user: 'bob' })).allowed).toBe(true)
    await tollgate.resume({ user: 'alice' })
    expect((await waiting).allowed).toBe(true)
  })

  test.each<[string, Pause['for'], boolean[]]>([
    ['a user', { user: 'alice' }, [true, false]],
    ['a team', { team: 'blue' }, [true, false]],
    ['an org', { org: 'gold' }, [true, false]],
    ['a rule: the calls that it covers', { rule: 'gold' }, [true, false]],
    ['an agent', { agent: 'llm' }, [true, true]],
  ])('a pause of %s', async (_what, subject, paused) => {
    const tollgate = await newPlace(place).open({ rules: RULES })
    await tollgate.pause(subject)
    const calls = [
      { agent: 'llm', user: 'alice', team: 'blue', org: 'gold' },
      { agent: 'llm', user: 'bob', team: 'red', org: 'iron' },
    ]
    expect(await Promise.all(calls.map(async (call) => !(await tollgate.gate.peek(call)).allowed))).toEqual(paused)
  })

  test.each<[string, unknown, unknown, string, RegExp]>([
    ['no subject', {}, {}, 'REQUEST_INVALID', /^for: must name exactly one of agent, user, team, org, rule \(got \{\}\)$/],
    ['two subjects', { agent: 'a', user: 'b' }, {}, 'REQUEST_INVALID', /^for: must name exactly one of/],
    ['an unknown subject', { model: 'gpt' }, {}, 'REQUEST_INVALID', /^model: is not a known field \(got "gpt"\)$/],
    ['undefined', undefined, {}, 'REQUEST_INVALID', /\(got undefined\)$/],
    ['an empty name', { agent: '' }, {}, 'REQUEST_INVALID', /^agent: .*\(got ""\)$/],
    ['a rule that is not there', { rule: 'none' }, {}, 'RULE_UNKNOWN', /^no rule is called "none"$/],
    ['an agent by an empty actor', { agent: 'a' }, { by: '' }, 'REQUEST_INVALID', /^by: .*\(got ""\)$/],
    ['an agent for a reason too long', { agent: 'a' }, { reason: 'x'.repeat(1001) }, 'REQUEST_INVALID', /^reason: .*1000/],
  ])('a pause of %s is refused, naming field, value and bound, and changes nothing', async (_what, subject, options, code, message) => {
    const tollgate = await newPlace(place).open({ rules: RULES })
    await expect(tollgate.pause(subject as Pause['for'], options as object)).rejects.toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    )
    expect(tollgate.paused()).toEqual([])
    expect(await tollgate.overrides.audit({ what: 'calls.paused' })).toEqual([])
  })
})

test('paused calls wait in line whatever the strategy of their rules, and all go on at once when they are resumed', async () => {
  const namespace = newNamespace()
  const app = await namespace.open({ rules: RULES })
  const worker = await namespace.open()
  const done: string[] = []
  const attempts: number[] = []
  worker.worker(async (call, context) => {
    attempts.push(context.attempt)
    done.push(call.agent)
  })
  await app.pause({ agent: 'llm' }, { by: 'ops' })
  const tickets = await app.enqueueMany(Array.from({ length: 30 }, (_, index) => ({ agent: index % 2 ? 'llm' : 'other', payload: index })))
  const paused = tickets.filter((_, index) => index % 2)
  expect(paused.map(({ decision }) => decision?.outcome)).toEqual(Array(15).fill('wait'))
  expect(paused[3]?.decision).toMatchObject({ etaMs: null, position: 3, binding: { rule: '~pause.agent', limit: 'paused', scopeValue: 'llm' } })
  await until('the others are done', () => done.length === 15)
  expect(new Set(done)).toEqual(new Set(['other']))
  expect(await app.explain(paused[3]?.id ?? '')).toMatchObject({
    state: 'waiting',
    position: 3,
    etaMs: null,
    binding: { rule: '~pause.agent', limit: 'paused' },
  })
  await app.resume({ agent: 'llm' }, { by: 'ops' })
  await until('all are done', () => done.length === 30)
  expect(new Set(attempts)).toEqual(new Set([1]))
  expect((await app.gate.peek({ agent: 'llm' })).usage[0]?.used).toBeCloseTo(15, 1)
})

test('calls in another line, calls with a pass and plain BullMQ jobs stop at a pause; running calls go on', async () => {
  const namespace = newNamespace()
  const rules: RuleSpec[] = [{ name: 'account', scope: 'agent', limits: [{ requests: 20, per: 'second', burst: 2 }] }]
  const app = await namespace.open({ rules })
  const release: (() => void)[] = []
  let ended = 0
  const worker = await namespace.open()
  worker.worker(async () => {
    await new Promise<void>((resolve) => {
      release.push(resolve)
    })
    ended++
  })
  await app.enqueueMany(Array.from({ length: 20 }, () => ({ agent: 'llm' })))
  const plain = new Queue('calls', { connection: namespace.redis, prefix: app.prefix })
  onTestFinished(() => plain.close())
  await until('some run', () => release.length >= 4)
  await app.pause({ agent: 'llm' })
  await until('the worker knows', () => worker.paused().length === 1)
  await plain.addBulk(Array.from({ length: 5 }, () => ({ name: 'llm', data: {} })))
  await until('all other calls stand in the line of the pause', async () => {
    const running = release.length
    return (await namespace.redis.zcard(namespace.keys.line('~pause.agent', 'llm'))) === 25 - running
  })
  const running = release.length
  for (const one of release) one()
  await until('the running calls have ended', () => ended === running)
  expect(release).toHaveLength(running)
  await app.resume({ agent: 'llm' })
  await until('all have started', () => release.length === 25)
  for (const one of release) one()
  await until('all have ended', () => ended === 25)
})

test('a call that two pauses hold waits for both', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  let done = 0
  tollgate.worker(async () => void done++)
  await tollgate.pause({ agent: 'llm' })
  await tollgate.pause({ rule: 'gold' })
  const ticket = await tollgate.enqueue({ agent: 'llm', user: 'alice', org: 'gold' })
  await tollgate.resume({ rule: 'gold' })
  await tollgate.resume({ agent: 'other' })
  await until('it waits for the other pause', async () => (await tollgate.explain(ticket.id)).binding?.rule === '~pause.agent')
  expect(done).toBe(0)
  await tollgate.resume({ agent: 'llm' })
  await ticket.result()
})

test('a paused call with the strategy hard is refused at once', async () => {
  const tollgate = await newNamespace().open({ rules: RULES })
  await tollgate.pause({ agent: 'llm' })
  expect(await codeOf(tollgate.enqueue({ agent: 'llm', strategy: 'hard' }))).toBe('PAUSED')
})

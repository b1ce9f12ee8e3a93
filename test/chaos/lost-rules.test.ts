import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { describe, expect, test } from 'vitest'
import type { RuleSpec, Tollgate } from '../../src/index.js'
import type { Namespace } from '../support/namespace.js'
import { newNamespace } from '../support/namespace.js'
import { ownRedis } from '../support/outage.js'
import { until } from '../support/until.js'

const RULE: RuleSpec = { name: 'A', scope: 'agent', limits: [{ requests: 3, per: 'day', algorithm: 'fixed_window' }] }
/** Within so long a lost policy is there again. */
const BOUND_MS = 2000

function logged(): { lines: { msg: string }[]; logger: pino.Logger } {
  const lines: { msg: string }[] = []
  return { lines, logger: pino({ level: 'warn' }, { write: (line: string) => lines.push(JSON.parse(line)) }) }
}

/** What Redis has, to be put there again later: a failover to a replica that had not got everything. */
async function snapshot({ redis }: Namespace): Promise<() => Promise<void>> {
  const keys = await redis.keys('*')
  const values = await Promise.all(keys.map((key) => redis.dumpBuffer(key)))
  return async () => {
    const restored = redis.multi().flushall()
    for (const [n, key] of keys.entries()) restored.restore(key, 0, values[n] as Buffer)
    await restored.exec()
  }
}

const limitOf = (tollgate: Tollgate) => tollgate.rules.get('A')?.limits[0]?.requests
const restoredOf = (tollgate: Tollgate) => tollgate.overrides.audit({ what: 'rules.restored' })
const stored = ({ redis, keys }: Namespace) => redis.exists(keys.rules)

describe('a policy that Redis has lost', () => {
  test('is declared anew, once, with all that was set at run time, and the audit says so', async () => {
    const { namespace } = await ownRedis()
    const { lines, logger } = logged()
    const app = await namespace.open({ rules: [RULE], logger })
    const worker = await namespace.open()
    await app.rules.update('A', { limits: [{ requests: 4, per: 'day', algorithm: 'fixed_window' }] })
    await worker.rules.add({ name: 'added', scope: 'user', limits: [{ requests: 1, per: 'day' }] })
    await app.pause({ user: 'eve' })
    await app.overrides.grant({ for: { user: 'ann' }, allow: 'unlimited', reason: 'incident', by: 'ann', forMs: 60_000 })
    await until('the worker knows', () => worker.overrides.list().length === 1)
    await namespace.redis.flushall()
    const fromMs = performance.now()
    await until('it is there again', async () => (await stored(namespace)) === 1)
    expect(performance.now() - fromMs).toBeLessThan(BOUND_MS)
    const late = await namespace.open()
    expect(late.rules.list().map(({ name }) => name)).toEqual(['A', 'added'])
    expect([limitOf(late), late.paused().length, late.overrides.list().length]).toEqual([4, 1, 1])
    await sleep(2500)
    const notes = await restoredOf(late)
    expect(notes).toHaveLength(1)
    expect(notes[0]).toMatchObject({ by: 'tollgate', subject: 'rules', before: { rules: [] }, after: { rules: [{ name: 'A' }, { name: 'added' }] } })
    expect([limitOf(app), limitOf(worker)]).toEqual([4, 4])
    expect(lines.filter(({ msg }) => msg.includes('lost the rules')).length).toBeLessThanOrEqual(1)
  })

  test('is kept by processes that know it while one without rules opens and changes something', async () => {
    const { namespace } = await ownRedis()
    const app = await namespace.open({ rules: [RULE] })
    for (let n = 0; n < 3; n++) {
      await namespace.redis.flushall()
      const other = await namespace.open({ auditRetentionMs: 3_600_000 + n })
      await other.rules.add({ name: `late.${n}`, scope: 'user', limits: [{ requests: 1, per: 'day' }] })
      const grants = await Promise.all(Array.from({ length: 20 }, () => app.gate.admit({ agent: `agent${n}` })))
      expect(grants.filter(({ allowed }) => allowed)).toHaveLength(3)
      await until('both know all rules', () => [app, other].every(({ rules }) => rules.get('A') !== null && rules.get(`late.${n}`) !== null), BOUND_MS)
      const bucket = await Promise.all(Array.from({ length: 20 }, () => other.gate.admit({ agent: `agent${n}` })))
      expect(bucket.filter(({ allowed }) => allowed)).toHaveLength(0)
    }
    // Which process declares its rules first, decides their order.
    expect(new Set(app.rules.list().map(({ name }) => name))).toEqual(new Set(['A', 'late.0', 'late.1', 'late.2']))
  })

  test('gives way to rules that were declared after the loss, and what was set at run time comes back beside them', async () => {
    const { namespace } = await ownRedis()
    const worker = await namespace.open({ rules: [RULE] })
    await worker.rules.add({ name: 'added', scope: 'user', limits: [{ requests: 1, per: 'day' }] })
    await namespace.redis.flushall()
    const app = await namespace.open({ rules: [{ ...RULE, limits: [{ requests: 9, per: 'day', algorithm: 'fixed_window' }] }] })
    await until('both have both', () => [app, worker].every((one) => limitOf(one) === 9 && one.rules.get('added') !== null), BOUND_MS)
  })

  test('is not lost by a change that a process makes before it has noticed the loss', async () => {
    const { namespace } = await ownRedis()
    const app = await namespace.open({ rules: [RULE] })
    await namespace.redis.flushall()
    await app.rules.add({ name: 'added', scope: 'user', limits: [{ requests: 1, per: 'day' }] })
    expect(app.rules.list().map(({ name }) => name)).toEqual(['A', 'added'])
    expect((await restoredOf(app)).length + (await app.overrides.audit({ what: 'rule.added' })).length).toBe(2)
  })

  test('an older state is replaced by the newest that a process knows, also where it went on', async () => {
    const { namespace } = await ownRedis()
    const app = await namespace.open({ rules: [RULE] })
    const failover = await snapshot(namespace)
    const update = (tollgate: Tollgate, requests: number) => tollgate.rules.update('A', { limits: [{ requests, per: 'day', algorithm: 'fixed_window' }] })
    await update(app, 5)
    await update(app, 3)
    await update(app, 7)
    await failover()
    await until('the newest is back', async () => limitOf(await namespace.open()) === 7, BOUND_MS)
    expect(limitOf(app)).toBe(7)
    expect((await restoredOf(app)).length).toBe(1)
    await failover()
    // It knows the older state alone, and changes that.
    const other = await namespace.open()
    expect([3, 7]).toContain(limitOf(other))
    await other.rules.add({ name: 'after', scope: 'user', limits: [{ requests: 1, per: 'day' }] })
    await until('both know both', () => [app, other].every((one) => limitOf(one) === 7 && one.rules.get('after') !== null), BOUND_MS)
    await update(other, 8)
    await until('changes go on', () => limitOf(app) === 8, BOUND_MS)
  })

  test('traffic through processes that know the rules stays within them while Redis is emptied', async () => {
    const { namespace } = await ownRedis()
    const rules: RuleSpec[] = [{ name: 'A', scope: 'agent', limits: [{ requests: 20, per: 'second', burst: 5 }] }]
    const app = await namespace.open({ rules })
    const starts: number[] = []
    const worker = await namespace.open()
    worker.worker(async () => starts.push(performance.now()))
    const tickets = await app.enqueueMany(Array.from({ length: 20 }, () => ({ agent: 'llm' })))
    await until('some run', () => starts.length > 5)
    await namespace.redis.flushall()
    await until('the rules are back', async () => (await stored(namespace)) === 1, BOUND_MS)
    const late = await namespace.open({ requireRules: true })
    const more = await late.enqueueMany(Array.from({ length: 20 }, () => ({ agent: 'llm' })))
    expect(more.every(({ error }) => error === undefined)).toBe(true)
    await until('all that Redis has have run', () => starts.length >= 25)
    // Redis has lost one bucket: that is one burst more, once.
    const seconds = starts.map((from) => starts.filter((at) => at >= from && at < from + 1000).length)
    expect(Math.max(...seconds)).toBeLessThanOrEqual(20 + 5 + 5)
    expect(tickets).toHaveLength(20)
  })
})

describe('a namespace without rules', () => {
  test('is opened with one warning, or not at all where rules are required', async () => {
    const namespace = newNamespace()
    const { lines, logger } = logged()
    const tollgate = await namespace.open({ logger })
    expect(lines.map(({ msg }) => msg)).toEqual(['this namespace has no rules: its calls pass unchecked until some are declared'])
    await expect(namespace.open({ requireRules: true })).rejects.toMatchObject({ code: 'RULES_MISSING', status: 503, retryable: true })
    expect(() => tollgate.worker(async () => {}, { requireRules: true })).toThrow(expect.objectContaining({ code: 'RULES_MISSING' }))
    const [opened] = await Promise.all([namespace.open({ requireRules: true, logger }), tollgate.rules.apply([RULE])])
    expect(opened.rules.list()).toHaveLength(1)
    await opened.worker(async () => {}, { requireRules: true }).close()
    await expect(namespace.open({ requireRules: true, rules: [] })).rejects.toMatchObject({ code: 'RULES_MISSING' })
    expect(lines).toHaveLength(1)
  })
})

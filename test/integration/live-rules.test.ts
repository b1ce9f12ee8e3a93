import { describe, expect, test } from 'vitest'
import type { RuleSpec } from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'
import { newPlace, PLACES } from '../support/place.js'
import { until } from '../support/until.js'

const DECLARED: RuleSpec[] = [{ name: 'declared', scope: 'agent', limits: [{ requests: 5, per: 'day' }] }]
const ADDED: RuleSpec = { name: 'added', scope: 'user', strategy: 'hard', limits: [{ requests: 1, per: 'day' }] }
const CALL = { agent: 'llm', user: 'alice' }

describe.each(PLACES)('in %s', (place) => {
  test('a rule that is added counts at once, beside the declared ones, and is found by its name', async () => {
    const tollgate = await newPlace(place).open({ rules: DECLARED })
    await tollgate.rules.add(ADDED)
    await tollgate.rules.add(structuredClone(ADDED))
    expect(tollgate.rules.list()).toEqual([...DECLARED, ADDED])
    expect(tollgate.rules.get('added')).toEqual(ADDED)
    expect(tollgate.rules.get('none')).toBeNull()
    expect((await tollgate.gate.admit(CALL)).allowed).toBe(true)
    expect((await tollgate.gate.admit(CALL)).limitExceeded).toBe('added/requests/day')
  })

  test('update changes some fields of a rule, in its place in the list, and its usage is kept', async () => {
    const tollgate = await newPlace(place).open({ rules: DECLARED })
    await tollgate.rules.add(ADDED)
    await tollgate.gate.admit(CALL)
    await tollgate.rules.update('added', { limits: [{ requests: 3, per: 'day' }], strategy: undefined })
    await tollgate.rules.update('declared', { priority: 7 })
    expect(tollgate.rules.list()).toEqual([
      { ...DECLARED[0], priority: 7 },
      { name: 'added', scope: 'user', limits: [{ requests: 3, per: 'day' }] },
    ])
    expect((await tollgate.gate.admit(CALL)).usage.find(({ rule }) => rule === 'added')?.used).toBeCloseTo(2, 1)
  })

  test('a removed rule is gone from the list, and remove returns whether it was there', async () => {
    const tollgate = await newPlace(place).open({ rules: DECLARED })
    await tollgate.rules.add(ADDED)
    expect([await tollgate.rules.remove('added'), await tollgate.rules.remove('added'), await tollgate.rules.remove('declared')]).toEqual([true, false, true])
    expect(tollgate.rules.list()).toEqual([])
    await tollgate.rules.apply(DECLARED)
    expect(tollgate.rules.list()).toEqual(DECLARED)
  })

  test('a change that is not valid changes nothing, and names field, value and bound', async () => {
    const tollgate = await newPlace(place).open({ rules: DECLARED })
    await tollgate.rules.add(ADDED)
    const before = tollgate.rules.list()
    await expect(tollgate.rules.add({ ...ADDED, scope: 'planet' })).rejects.toThrow(/^scope must be one of global, .* \(got "planet"\)$/)
    await expect(tollgate.rules.add({ ...ADDED, priority: 1 })).rejects.toThrow(/^name is taken by another rule; names must differ \(got "added"\)$/)
    await expect(tollgate.rules.add({ ...ADDED, name: 'declared' })).rejects.toThrow(/is taken by rules\.0; names must differ/)
    await expect(tollgate.rules.update('added', { priority: 1.5 })).rejects.toThrow(/priority must be a whole number .* \(got 1\.5\)$/)
    await expect(tollgate.rules.update('added', { name: 'other' })).rejects.toThrow(/^name must stay added: .* \(got "other"\)$/)
    await expect(tollgate.rules.update('none', {})).rejects.toThrow(expect.objectContaining({ code: 'RULE_UNKNOWN' }))
    await expect(tollgate.rules.remove('added', { by: '' })).rejects.toThrow(expect.objectContaining({ code: 'REQUEST_INVALID' }))
    expect(tollgate.rules.list()).toBe(before)
  })
})

test('added rules are known to every process, and stay when all processes close and others declare rules', async () => {
  const namespace = newNamespace()
  const [one, other] = [await namespace.open({ rules: DECLARED }), await namespace.open()]
  await one.rules.add(ADDED)
  await until('the other process knows of it', () => other.rules.get('added') !== null)
  await Promise.all([one.close(), other.close()])
  const later = await namespace.open({ rules: [] })
  expect(later.rules.list()).toEqual([ADDED])
})

test('a process goes by its own change at once, also while it is still reading an earlier one', async () => {
  const tollgate = await newNamespace().open({ rules: DECLARED })
  const seen: boolean[] = []
  for (let i = 0; i < 150; i++) {
    await tollgate.rules.add(ADDED)
    seen.push(tollgate.rules.get('added') !== null)
    await tollgate.rules.remove('added')
    seen.push(tollgate.rules.get('added') === null)
    // Gives the process time to start reading the rules of an earlier change.
    await new Promise((resolve) => setImmediate(resolve))
  }
  expect(seen.filter((one) => !one)).toEqual([])
})

test('a process that closes dispatches by the rules in force until its last call has ended', async () => {
  const namespace = newNamespace()
  const app = await namespace.open({ rules: [{ name: 'r', scope: 'agent', limits: [{ requests: 1, per: 'hour' }] }] })
  const closing = await namespace.open()
  let end = () => {}
  closing.worker(
    () =>
      new Promise<void>((resolve) => {
        end = resolve
      }),
  )
  const [first, second] = await app.enqueueMany([{ agent: 'llm' }, { agent: 'llm' }])
  await until('the first call runs', async () => (await app.explain(first?.id ?? '')).state === 'running')
  const closed = closing.close()
  const other = await namespace.open()
  other.worker(async () => 'by the other')
  await app.rules.update('r', { limits: [{ requests: 1000, per: 'second' }] })
  expect(await second?.result()).toBe('by the other')
  end()
  await closed
  await first?.result()
})

import { describe, expect, test } from 'vitest'
import type { RuleSpec } from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'
import { codeOf, newPlace, PLACES } from '../support/place.js'
import { until } from '../support/until.js'

const RULES: RuleSpec[] = [{ name: 'r', scope: 'user', limits: [{ requests: 1000, per: 'minute' }] }]

describe.each(PLACES)('in %s', (place) => {
  test('a capacity set at run time limits the calls of that resource, and get returns what is available and in flight', async () => {
    const tollgate = await newPlace(place).open()
    expect(await tollgate.capacity.get('openai')).toBeNull()
    await tollgate.setCapacity('openai', 3, 'day')
    expect(await tollgate.capacity.get('openai')).toEqual({ limit: 3, per: 'day', available: 3, inFlight: 0 })
    const grants = await Promise.all(Array.from({ length: 4 }, () => tollgate.gate.admit({ agent: 'openai' })))
    expect(grants.map(({ allowed }) => allowed)).toEqual([true, true, true, false])
    expect(grants[3]?.limitExceeded).toBe('resource.openai/capacity')
    expect(await tollgate.capacity.get('openai')).toEqual({ limit: 3, per: 'day', available: 0, inFlight: 3 })
    await grants[0]?.settle()
    await grants[1]?.release()
    expect(await tollgate.capacity.get('openai')).toEqual({ limit: 3, per: 'day', available: 1, inFlight: 1 })
    expect((await tollgate.gate.admit({ agent: 'anthropic' })).allowed).toBe(true)
    expect(await tollgate.capacity.get('anthropic')).toBeNull()
  })

  test('a capacity of 0 closes a resource, null takes the capacity away', async () => {
    const tollgate = await newPlace(place).open({ rules: RULES })
    await tollgate.setCapacity('openai', 0)
    expect(await tollgate.capacity.get('openai')).toEqual({ limit: 0, per: 'minute', available: 0, inFlight: 0 })
    expect((await tollgate.gate.admit({ agent: 'openai' })).limitExceeded).toBe('resource.openai/capacity')
    await tollgate.setCapacity('openai', null)
    await tollgate.setCapacity('never-set', null)
    expect(await tollgate.capacity.get('openai')).toBeNull()
    expect((await tollgate.gate.admit({ agent: 'openai' })).allowed).toBe(true)
    expect(tollgate.rules.list()).toEqual(RULES)
  })

  test('a raised capacity counts at once for waiting calls, and usage is kept', async () => {
    const tollgate = await newPlace(place).open()
    await tollgate.setCapacity('openai', 1, 'day')
    await tollgate.gate.acquire({ agent: 'openai' })
    const next = tollgate.gate.acquire({ agent: 'openai' })
    await tollgate.setCapacity('openai', 5, 'day')
    expect((await next).allowed).toBe(true)
    expect(await tollgate.capacity.get('openai')).toEqual({ limit: 5, per: 'day', available: 3, inFlight: 2 })
  })

  test('declared rules change without changing capacities, and neither can take the name of the other', async () => {
    const tollgate = await newPlace(place).open({ rules: RULES })
    await tollgate.setCapacity('openai', 60)
    await tollgate.rules.apply([])
    expect(await tollgate.capacity.get('openai')).toMatchObject({ limit: 60, per: 'minute' })
    const namesake: RuleSpec = { name: 'resource.openai', scope: 'user', limits: [{ requests: 1, per: 'minute' }] }
    await expect(tollgate.rules.apply([namesake])).rejects.toThrow(/^rules\.1\.name is taken by rules\.0; names must differ \(got "resource\.openai"\)$/)
    await tollgate.setCapacity('openai', null)
    await tollgate.rules.apply([namesake])
    expect(await codeOf(tollgate.setCapacity('openai', 60))).toBe('RULES_INVALID')
    expect(tollgate.rules.list()).toEqual([namesake])
  })

  test.each<[string, unknown, unknown, unknown, string]>([
    ['no name', '', 60, 'minute', 'resource: must be 1 to 55 letters, digits, . _ or -, and begin with a letter or digit (got "")'],
    ['a name with a space', 'open ai', 60, 'minute', 'resource: must be 1 to 55 letters, digits, . _ or -, and begin with a letter or digit (got "open ai")'],
    ['a limit below 0', 'openai', -1, 'minute', 'limit: must be a number from 0 to 1000000000000, or null for none (got -1)'],
    ['no limit', 'openai', undefined, 'minute', 'limit: must be a number from 0 to 1000000000000, or null for none (got undefined)'],
    [
      'an unknown window',
      'openai',
      60,
      'fortnight',
      'per: must be second, minute, hour, day, week, month, quarter, year or a duration such as 10s, 15m, of at most 366d (got "fortnight")',
    ],
  ])('a capacity with %s is refused, naming field, value and bound', async (_what, resource, limit, per, message) => {
    const tollgate = await newPlace(place).open({ rules: RULES })
    await expect(tollgate.setCapacity(resource as string, limit as number, per as string)).rejects.toThrow(
      expect.objectContaining({ code: 'CALL_INVALID', message }),
    )
    expect(tollgate.rules.list()).toEqual(RULES)
  })
})

test('a capacity that one process sets counts in the others, and outlives all of them', async () => {
  const namespace = newNamespace()
  const [one, other] = [await namespace.open({ rules: RULES }), await namespace.open()]
  await one.setCapacity('openai', 2, 'day')
  await until('the other knows of it', async () => (await other.capacity.get('openai')) !== null)
  expect((await other.gate.admit({ agent: 'openai', user: 'u' })).allowed).toBe(true)
  expect(await one.capacity.get('openai')).toEqual({ limit: 2, per: 'day', available: 1, inFlight: 1 })
  await Promise.all([one.close(), other.close()])
  const later = await namespace.open({ rules: RULES })
  expect(await later.capacity.get('openai')).toEqual({ limit: 2, per: 'day', available: 1, inFlight: 1 })
})

test('capacities that are set at the same time, and rules that are applied meanwhile, are all kept', async () => {
  const namespace = newNamespace()
  const tollgates = await Promise.all(Array.from({ length: 3 }, () => namespace.open()))
  const names = Array.from({ length: 12 }, (_, index) => `agent-${index}`)
  await Promise.all([
    ...names.map((name, index) => tollgates[index % 3]?.setCapacity(name, index + 1)),
    ...tollgates.map((tollgate) => tollgate.rules.apply(RULES)),
  ])
  const after = await namespace.open()
  expect(await Promise.all(names.map(async (name) => (await after.capacity.get(name))?.limit))).toEqual(names.map((_, index) => index + 1))
  expect(after.rules.list()).toContainEqual(RULES[0])
})

test('a call counts as in flight while its handler runs', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open()
  await tollgate.setCapacity('openai', 100, 'day')
  const running: (() => void)[] = []
  tollgate.worker(
    () =>
      new Promise<void>((resolve) => {
        running.push(resolve)
      }),
  )
  const ticket = await tollgate.enqueue({ agent: 'openai' })
  await until('it runs', async () => (await tollgate.capacity.get('openai'))?.inFlight === 1)
  await until('its handler was called', () => running.length === 1)
  running[0]?.()
  await ticket.result()
  await until('it has ended', async () => (await tollgate.capacity.get('openai'))?.inFlight === 0)
  expect((await tollgate.capacity.get('openai'))?.limit).toBe(100)
})

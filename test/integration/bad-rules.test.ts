import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { type RuleSpec, RulesInvalid } from '../../src/index.js'
import { snapshot } from '../support/keys.js'
import { newNamespace } from '../support/namespace.js'
import { until } from '../support/until.js'

const FOLDER = fileURLToPath(new URL('../fixtures/rules/', import.meta.url))
const RULES: RuleSpec[] = [{ name: 'kept', scope: 'user', limits: [{ requests: 10, per: 'day', algorithm: 'fixed_window' }] }]

test('applying a bad rules file throws, and leaves the rules in force and their usage as they were', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  await until('BullMQ has opened the queue', async () => (await namespace.redis.exists(`${namespace.keys.prefix}:calls:meta`)) === 1)
  for (let i = 0; i < 4; i++) expect((await tollgate.gate.admit({ agent: 'a', user: 'u' })).allowed).toBe(true)
  const before = await snapshot(namespace)
  for (const file of readdirSync(FOLDER).filter((name) => name.endsWith('.yaml'))) {
    await expect(tollgate.rules.apply(FOLDER + file), file).rejects.toThrow(RulesInvalid)
    expect(tollgate.rules.list(), file).toEqual(RULES)
  }
  await expect(tollgate.rules.apply([...RULES, { name: 'bad', scope: 'user', limits: [] }])).rejects.toThrow(/^rules\.1\.limits /)
  await expect(tollgate.rules.apply(`${FOLDER}nowhere.yaml`)).rejects.toThrow(/cannot be read \(ENOENT\)$/)
  expect(await snapshot(namespace)).toEqual(before)
  expect((await tollgate.gate.peek({ agent: 'a', user: 'u' })).usage).toMatchObject([{ rule: 'kept', used: 4, remaining: 6 }])
  const other = await namespace.open()
  expect(other.rules.list(), 'rules of a process that opens now').toEqual(RULES)
})

test('opening with a bad rules file throws, and changes nothing for other processes', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  const rules = await namespace.redis.hgetall(namespace.keys.rules)
  await expect(namespace.open({ rules: `${FOLDER}two-units.yaml` })).rejects.toThrow(/two-units\.yaml:6: rules\.0\.limits\.0 /)
  await expect(namespace.open({ rules: [{ name: 'bad name', scope: 'user', limits: [] }] })).rejects.toThrow(RulesInvalid)
  expect(await namespace.redis.hgetall(namespace.keys.rules)).toEqual(rules)
  expect(tollgate.rules.list()).toEqual(RULES)
})

test('good rules files are applied one after the other, and a rule that comes back has kept its usage', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  await tollgate.gate.admit({ agent: 'a', user: 'u' })
  for (const file of readdirSync(`${FOLDER}good`)) {
    await tollgate.rules.apply(`${FOLDER}good/${file}`)
    await tollgate.gate.peek({
      agent: 'openai',
      user: 'mallory',
      team: 't',
      org: 'o',
      ip: '10.0.0.1',
      endpoint: '/v1/x',
      model: 'gpt-4o',
      keys: { region: 'eu' },
      cost: { tokens: 1 },
    })
  }
  await tollgate.rules.apply(RULES)
  expect((await tollgate.gate.peek({ agent: 'a', user: 'u' })).usage).toMatchObject([{ rule: 'kept', used: 1 }])
})

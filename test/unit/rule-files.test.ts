import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { RulesInvalid } from '../../src/model/errors.js'
import type { RuleSpec } from '../../src/policy/rule.js'
import { checkRules, parseRules, readRules } from '../../src/policy/rules-file.js'

const FOLDER = fileURLToPath(new URL('../fixtures/rules/', import.meta.url))
const files = readdirSync(FOLDER).filter((name) => name.endsWith('.yaml'))

/** The expected fault of a rules file, from its first line. */
function expectation(file: string): RegExp {
  const [, pattern] = /^# expect: (.+)$/m.exec(readFileSync(FOLDER + file, 'utf8').split('\n')[0] ?? '') ?? []
  if (pattern === undefined) throw new Error(`${file} does not begin with "# expect: "`)
  return new RegExp(pattern)
}

async function faultOf(work: Promise<unknown>): Promise<RulesInvalid> {
  const fault: unknown = await work.then(
    () => undefined,
    (error: unknown) => error,
  )
  if (!(fault instanceof RulesInvalid)) throw new Error(`not refused with RulesInvalid: ${String(fault)}`)
  return fault
}

test.each(files)('the rules file %s is refused, naming the place, the field, the value and the bound', async (file) => {
  const fault = await faultOf(readRules(FOLDER + file))
  expect(fault.code).toBe('RULES_INVALID')
  expect(fault.message).toMatch(expectation(file))
  expect(fault.message.startsWith(`${FOLDER}${file}:`)).toBe(true)
  expect(fault.faults.join('\n')).toBe(fault.message)
  for (const one of fault.faults) expect(one.length).toBeLessThan(FOLDER.length + 500)
})

test('no two rules files expect the same message', () => {
  const seen = new Map<string, string>()
  for (const file of files) {
    const { source } = expectation(file)
    expect(seen.get(source), `${file} expects the message of another file`).toBeUndefined()
    seen.set(source, file)
  }
  expect(seen.size).toBeGreaterThan(100)
})

test('every fault of a file is named, not only the first', () => {
  const text = 'rules:\n  - name: a b\n    scope: tenant\n    limits:\n      - { requests: -1, per: minute }\n'
  const fault = expect(() => parseRules(text, 'three.yaml'))
  fault.toThrow(/three\.yaml:2: rules\.0\.name .*\n.*three\.yaml:3: rules\.0\.scope .*\n.*three\.yaml:5: rules\.0\.limits\.0\.requests /)
})

test('a rules file that is not there is named with the reason', async () => {
  const fault = await faultOf(readRules(`${FOLDER}nowhere.yaml`))
  expect(fault.message).toBe(`${FOLDER}nowhere.yaml: cannot be read (ENOENT)`)
})

test('a folder is not a rules file', async () => {
  expect((await faultOf(readRules(FOLDER))).message).toMatch(/cannot be read \(EISDIR\)$/)
})

test('a key or password in the agents section is not in the message', () => {
  for (const field of ['apiKey: sk-hunter2', 'apiKeyEnv: sk-hunter2', 'token: sk-hunter2', 'baseUrl: "https://u:sk-hunter2@host"']) {
    const text = `rules: []\nagents:\n  openai: { baseUrl: "https://host", ${field} }\n`.replace(/baseUrl: "https:\/\/host", (?=baseUrl)/, '')
    expect(() => parseRules(text, 'keys.yaml')).toThrow(RulesInvalid)
    expect(() => parseRules(text, 'keys.yaml')).not.toThrow(/hunter2/)
  }
})

test.each([
  ['NaN', { requests: Number.NaN, per: 'minute' }, 'rules.0.limits.0.requests must be a number from 0 to 1000000000000 (got NaN)'],
  ['infinity', { tokens: Number.POSITIVE_INFINITY, per: 'minute' }, 'rules.0.limits.0.tokens must be a number from 0 to 1000000000000 (got Infinity)'],
  ['a bigint', { requests: 10n, per: 'minute' }, 'rules.0.limits.0.requests must be a number from 0 to 1000000000000 (got 10)'],
  ['no window', { requests: 1 }, 'rules.0.limits.0.per is required: the window of the limit (got undefined)'],
])('rules given as objects are refused for %s, without file and line', (_, limit, message) => {
  expect(() => checkRules([{ name: 'a', scope: 'user', limits: [limit] } as RuleSpec])).toThrow(new RulesInvalid([message]))
})

test.each([[undefined], [null], [{}], [5]])('a value that is no list of rules is refused: %j', (rules) => {
  expect(() => checkRules(rules as unknown as RuleSpec[])).toThrow(/^rules (is required: it )?must be a list/)
})

import { execFile } from 'node:child_process'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { type Namespace, newNamespace } from '../support/namespace.js'

const main = join(dirname(createRequire(import.meta.url).resolve('tollgate/package.json')), 'dist/src/cli/main.js')

/** @returns the exit code of a command, the JSON it printed, and its standard error */
function tollgate(namespace: Namespace, ...args: string[]): Promise<{ code: number; json: unknown; errors: string }> {
  return new Promise((resolve) => {
    const all = [main, ...args, '--redis', namespace.url, '--namespace', namespace.name, '--json']
    execFile(process.execPath, all, { env: { PATH: process.env['PATH'], USER: 'tester' } }, (error, output, errors) => {
      resolve({ code: error === null ? 0 : Number(error.code), json: output === '' ? null : JSON.parse(output), errors })
    })
  })
}

test('rules, overrides, pauses and the audit from the command line', async () => {
  const namespace = newNamespace()
  const rule = { name: 'r', scope: 'user', limits: [{ requests: 1, per: 'day' }] }
  expect(await tollgate(namespace, 'rules', 'add', JSON.stringify(rule))).toEqual({ code: 0, json: { added: 'r' }, errors: '' })
  expect((await tollgate(namespace, 'rules', 'list')).json).toEqual([rule])
  const override = { for: { user: 'u' }, allow: 'unlimited', reason: 'testing' }
  const granted = await tollgate(namespace, 'override', 'grant', JSON.stringify({ ...override, forMs: 60_000 }), '--by', 'ann')
  const { id, until } = granted.json as { id: string; until: string }
  expect((await tollgate(namespace, 'override', 'list')).json).toMatchObject([{ ...override, id, until, by: 'ann' }])
  expect(await tollgate(namespace, 'override', 'revoke', id)).toMatchObject({ code: 0, json: { id, revoked: true } })
  expect(await tollgate(namespace, 'override', 'revoke', id)).toMatchObject({ code: 1, json: { id, revoked: false } })
  expect(await tollgate(namespace, 'pause', 'rule', 'r', '--reason', 'why')).toMatchObject({ code: 0, json: { paused: true } })
  expect(await tollgate(namespace, 'check', '{"agent":"a","user":"u"}')).toMatchObject({ code: 1, json: { limitExceeded: '~pause.rule/paused' } })
  expect(await tollgate(namespace, 'resume', 'rule', 'r')).toMatchObject({ code: 0, json: { resumed: true } })
  expect(await tollgate(namespace, 'rules', 'remove', 'r')).toMatchObject({ code: 0, json: { name: 'r', removed: true } })
  const audit = (await tollgate(namespace, 'audit')).json as { what: string; by: string }[]
  expect(audit.map(({ what, by }) => `${by} ${what}`)).toEqual([
    'tester rule.removed',
    'tester calls.resumed',
    'tester calls.paused',
    'tester override.revoked',
    'ann override.granted',
    'tester rule.added',
  ])
  expect((await tollgate(namespace, 'audit', '--by', 'ann', '--what', 'override.granted', '--limit', '1')).json).toHaveLength(1)
})

test('API keys from the command line: the key is shown once, and its id ends it', async () => {
  const namespace = newNamespace()
  const created = await tollgate(namespace, 'keys', 'create', '--org', 'acme', '--agents', 'llm,claude', '--until', '2099-01-01')
  const { id, key, ...issued } = created.json as { id: string; key: string }
  expect(key).toMatch(/^tg_[\w-]{43}$/)
  expect(issued).toMatchObject({ org: 'acme', agents: ['llm', 'claude'], until: '2099-01-01T00:00:00.000Z', by: 'tester', revokedAt: null })
  expect(await tollgate(namespace, 'keys', 'revoke', id)).toMatchObject({ code: 0, json: { id, revoked: true } })
  expect(await tollgate(namespace, 'keys', 'revoke', id)).toMatchObject({ code: 1, json: { id, revoked: false } })
  const listed = (await tollgate(namespace, 'keys', 'list')).json
  expect(listed).toMatchObject([{ id, org: 'acme' }])
  expect(JSON.stringify(listed)).not.toContain(key)
})

test.each<[string, string[], number, RegExp]>([
  ['an override that is not JSON', ['override', 'grant', '{'], 2, /^REQUEST_INVALID: override is not JSON/],
  [
    'an override without an end',
    ['override', 'grant', '{"for":{"user":"u"},"allow":"unlimited","reason":"other"}'],
    2,
    /^REQUEST_INVALID: forMs: or until is required/,
  ],
  ['a rule that is not valid', ['rules', 'add', '{"name":"r"}'], 2, /^RULES_INVALID: scope /],
  ['a pause of what cannot be paused', ['pause', 'planet', 'mars'], 2, /^REQUEST_INVALID: planet: is not a known field/],
  ['a pause of a rule that is not there', ['pause', 'rule', 'none'], 1, /^RULE_UNKNOWN: /],
  ['an audit of no entries', ['audit', '--limit', 'x'], 2, /^REQUEST_INVALID: limit: /],
])('%s is refused on the command line', async (_what, args, code, complaint) => {
  const answer = await tollgate(newNamespace(), ...args)
  expect(answer.code).toBe(code)
  expect(answer.errors).toMatch(complaint)
})

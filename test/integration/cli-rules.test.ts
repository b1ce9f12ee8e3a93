import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { newNamespace } from '../support/namespace.js'

const main = join(dirname(createRequire(import.meta.url).resolve('tollgate/package.json')), 'dist/src/cli/main.js')

function tollgate(...args: string[]): Promise<{ code: number; json: unknown; errors: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...args, '--json'], { env: { PATH: process.env['PATH'], USER: 'tester' } }, (error, output, errors) => {
      resolve({ code: error === null ? 0 : Number(error.code), json: output === '' ? null : JSON.parse(output), errors })
    })
  })
}

test('rules test warns, says which rules cover a call and how they stand, and rules diff what a file would change', async () => {
  const namespace = newNamespace()
  const folder = await mkdtemp(join(tmpdir(), 'rules-'))
  const file = join(folder, 'rules.yaml')
  await writeFile(
    file,
    `rules:
  - { name: kept, scope: user, limits: [{ requests: 5, per: day }] }
  - { name: changed, scope: agent, limits: [{ tokens: 100, per: day }] }
  - { name: fresh, scope: team, limits: [{ requests: 5, per: day }] }
`,
  )
  const kept = { name: 'kept', scope: 'user', limits: [{ requests: 5, per: 'day' }] }
  const changed = { name: 'changed', scope: 'agent', limits: [{ tokens: 5000, per: 'day' }] }
  const gone = { name: 'gone', scope: 'org', limits: [{ requests: 5, per: 'day' }] }
  const open = await namespace.open({ rules: [kept, changed, gone], prices: { '*': { input: 1, output: 1 } } })
  await open.gate.admit({ agent: 'a', user: 'u', cost: { tokens: 10 } })
  const call = '{"agent":"a","user":"u"}'

  const plain = await tollgate('rules', 'test', file)
  expect(plain).toMatchObject({
    code: 0,
    errors: '',
    json: { valid: true, rules: 3, warnings: [expect.stringContaining('rule changed: limit tokens/day holds 100 tokens')] },
  })
  const covered = await tollgate('rules', 'test', file, '--call', call)
  expect(covered.json).toMatchObject({
    call: [
      { rule: 'kept', covers: true, value: 'u' },
      { rule: 'changed', covers: true, value: 'a' },
      { rule: 'fresh', covers: false, why: 'the call has no team, which the rule counts by' },
    ],
  })
  const at = ['--redis', namespace.url, '--namespace', namespace.name]
  expect((await tollgate('rules', 'test', file, '--call', call, ...at)).json).toMatchObject({
    call: [
      { inForce: true, usage: [{ limit: 'requests/day', used: expect.closeTo(1, 1) }] },
      { inForce: true, usage: [{ limit: 'tokens/day' }] },
      { covers: false },
    ],
  })
  expect(await tollgate('rules', 'test', file, '--call', '{"agent":5}')).toMatchObject({ code: 2, errors: expect.stringMatching(/^CALL_INVALID: agent: /) })

  expect(await tollgate('rules', 'diff', file, ...at)).toMatchObject({
    code: 0,
    json: {
      added: [{ name: 'fresh' }],
      removed: [gone],
      changed: [{ name: 'changed', before: changed, after: { limits: [{ tokens: 100 }] } }],
      beside: { prices: { before: { '*': { input: 1, output: 1 } }, after: {} } },
    },
  })
  await open.rules.apply(file)
  expect((await tollgate('rules', 'diff', file, ...at)).json).toEqual({ added: [], removed: [], changed: [], beside: {} })
  await rm(folder, { recursive: true })
})

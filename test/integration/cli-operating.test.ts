import { execFile } from 'node:child_process'
import { createRequire } from 'node:module'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { freePort } from '../support/free-port.js'
import { newNamespace } from '../support/namespace.js'

const main = join(dirname(createRequire(import.meta.url).resolve('tollgate/package.json')), 'dist/src/cli/main.js')

interface Ran {
  readonly code: number
  readonly json: unknown
  readonly errors: string
  readonly tookMs: number
}

/** Runs a command without USER. */
function tollgate(url: string, namespace: string, ...args: string[]): Promise<Ran> {
  const beganMs = performance.now()
  return new Promise((resolve) => {
    const all = [main, ...args, '--redis', url, '--namespace', namespace, '--json']
    execFile(process.execPath, all, { env: { PATH: process.env['PATH'] } }, (error, output, errors) => {
      resolve({ code: error === null ? 0 : Number(error.code), json: output === '' ? null : JSON.parse(output), errors, tookMs: performance.now() - beganMs })
    })
  })
}

test('what waits, meters and blocks from the command line, without USER', { timeout: 60_000 }, async () => {
  const namespace = newNamespace()
  const rules = [{ name: 'r', scope: 'user' as const, limits: [{ requests: 1, per: 'day', algorithm: 'fixed_window' as const }] }]
  const app = await namespace.open({ rules })
  await app.enqueue({ agent: 'a', user: 'u' })
  const { id } = await app.enqueue({ agent: 'a', user: 'u', org: 'acme' })
  const run = (...args: string[]) => tollgate(namespace.url, namespace.name, ...args)
  expect((await run('calls', 'list', '--org', 'acme', '--waits-for', 'BUDGET')).json).toMatchObject({ calls: [{ id, waitsFor: 'BUDGET' }], cursor: null })
  expect((await run('lines', '--rule', 'r')).json).toMatchObject({ lines: [{ line: 'r/u', depth: 1, head: id }] })
  expect((await run('explain', id)).json).toMatchObject({ waitsFor: 'BUDGET', todo: expect.any(String) })
  expect((await run('calls', 'list', '--limit', 'x')).code).toBe(2)
  await app.gate.record({ agent: 'a', user: 'v' })
  expect((await run('meters', 'get', 'r', 'v')).json).toMatchObject([{ used: 1 }])
  expect(await run('reset', 'r', 'v', '--by', 'ann')).toMatchObject({ code: 0, errors: '' })
  expect((await run('meters', 'get', 'r', 'v')).json).toMatchObject([{ used: 0 }])
  await app.capacity.announce({ agent: 'a', model: 'm', retryAfterMs: 60_000 })
  expect((await run('capacity', 'get', 'a', '--model', 'm')).json).toMatchObject({ state: 'blocked' })
  expect(await run('capacity', 'lift', 'a', '--model', 'm')).toMatchObject({ code: 0, json: { lifted: true } })
  expect(await run('capacity', 'lift', 'a', '--model', 'm')).toMatchObject({ code: 1, json: { lifted: false } })
  const override = JSON.stringify({ for: { user: 'u' }, allow: 'unlimited', reason: 'testing', forMs: 60_000 })
  expect((await run('override', 'grant', override)).code).toBe(0)
  const audit = await app.overrides.audit()
  expect(audit.find(({ what }) => what === 'meter.reset')).toMatchObject({ by: 'ann', subject: 'r/v' })
  expect(audit.find(({ what }) => what === 'upstream.lifted')?.by).toMatch(/./)
  await app.cancel(id)
  await namespace.redis.del(await namespace.allKeys())
})

test('each command answers within 3 s where Redis is gone, or takes connections and says nothing', { timeout: 120_000 }, async () => {
  const silent = createServer((socket) => void socket.on('error', () => {}).resume())
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    silent.close()
  })
  const address = silent.address()
  const silentPort = typeof address === 'object' && address !== null ? address.port : 0
  const commands = [
    ['enqueue', '{"agent":"a"}'],
    ['check', '{"agent":"a"}'],
    ['explain', 'x'],
    ['calls', 'list'],
    ['lines'],
    ['reset', 'r'],
    ['rules', 'list'],
    ['audit'],
    ['keys', 'list'],
    ['pause', 'agent', 'a'],
  ]
  const startMs = (await tollgate('redis://127.0.0.1:1', 'n', 'rules', 'test', 'none.yaml')).tookMs
  const gone = await freePort()
  // All of them against a Redis that is gone, some against one that takes connections and says nothing.
  const cases = [...commands.map((command) => ({ port: gone, command })), ...commands.slice(0, 3).map((command) => ({ port: silentPort, command }))]
  for (const { port, command } of cases) {
    const ran = await tollgate(`redis://127.0.0.1:${port}`, 'n', ...command)
    expect(ran, command.join(' ')).toMatchObject({ code: 3, json: null, errors: expect.stringContaining('REDIS_UNAVAILABLE') })
    // On a busy machine Node starts slowly, and what follows is as slow.
    expect(ran.tookMs).toBeLessThan(Math.max(3000, 2000 + 4 * startMs))
  }
})

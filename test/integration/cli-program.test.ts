import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Command } from 'commander'
import { expect, onTestFinished, test } from 'vitest'
import { completionScript, SHELLS } from '../../src/cli/completion.js'
import { makeProgram } from '../../src/cli/program.js'
import { newNamespace } from '../support/namespace.js'

const main = join(dirname(createRequire(import.meta.url).resolve('tollgate/package.json')), 'dist/src/cli/main.js')

interface Ran {
  readonly code: number
  readonly output: string
  readonly errors: string
}

function run(file: string, args: readonly string[], environment: NodeJS.ProcessEnv = {}): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(file, args, { env: { PATH: process.env['PATH'], ...environment } }, (error, output, errors) => {
      resolve({ code: error === null ? 0 : Number(error.code), output, errors })
    })
  })
}
const tollgate = (...args: string[]) => run(process.execPath, [main, ...args])

function everyCommand(command: Command): Command[] {
  return [command, ...command.commands.flatMap(everyCommand)]
}

test('every command that prints data takes --json, and the commands that one begins with have examples', async () => {
  const program = makeProgram('0', 'd')
  const leaves = everyCommand(program).filter(({ commands }) => commands.length === 0)
  const without = leaves.filter(({ options }) => options.every(({ long }) => long !== '--json')).map((one) => one.name())
  expect(without.sort()).toEqual(['completion', 'serve', 'worker'])
  for (const name of ['enqueue', 'check', 'explain', 'top', 'doctor'])
    expect((await tollgate(name, '--help')).output, name).toContain('Examples:\n  $ tollgate')
})

test('help loads neither Redis, BullMQ, the HTTP server nor zod', async () => {
  const { errors } = await run(process.execPath, [main, '--help'], { NODE_DEBUG: 'esm' })
  for (const name of ['ioredis', 'bullmq', 'fastify', 'zod', 'pino', 'prom-client']) expect(errors).not.toContain(`node_modules/${name}/`)
})

test('a misspelt command or flag is answered with the nearest one', async () => {
  expect(await tollgate('lnes')).toMatchObject({ code: 1, errors: expect.stringContaining('Did you mean lines?') })
  expect(await tollgate('rules', 'lst')).toMatchObject({ code: 1, errors: expect.stringContaining('Did you mean list?') })
  expect(await tollgate('lines', '--jsn')).toMatchObject({ code: 1, errors: expect.stringContaining('Did you mean --json?') })
})

test('bash completes commands, subcommands and flags', async () => {
  const script = completionScript(makeProgram('0', 'd'), 'bash')
  const complete = async (...words: string[]) => {
    const asked = `${script}\nCOMP_WORDS=(tollgate ${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length}; _tollgate; echo "\${COMPREPLY[@]}"`
    return (await run('bash', ['-c', asked])).output.trim().split(' ')
  }
  expect(await complete('ru')).toEqual(['rules'])
  expect(await complete('rules', 'd')).toEqual(['diff'])
  expect(await complete('rules', 'list', '--name')).toEqual(['--namespace'])
  expect(await complete('')).toContain('doctor')
})

test('the scripts for zsh and fish name every command', () => {
  const program = makeProgram('0', 'd')
  for (const shell of SHELLS) {
    const script = completionScript(program, shell)
    for (const command of everyCommand(program).slice(1)) expect(script, shell).toContain(command.name())
  }
})

test('doctor finds what is wrong with a Redis, and says how to mend it', async () => {
  const namespace = newNamespace()
  await namespace.open({ rules: [] })
  const { code, output } = await tollgate('doctor', '--redis', namespace.url, '--json')
  const { healthy, findings } = JSON.parse(output) as { healthy: boolean; findings: { check: string; state: string; mend: string | null }[] }
  const names = ['version', 'topology', 'persistence', 'eviction', 'memory', 'connections', 'clock', 'latency', 'permissions', 'functions']
  expect(findings.map(({ check }) => check)).toEqual(expect.arrayContaining(names))
  expect(code).toBe(healthy ? 0 : 1)
  for (const { state, mend } of findings) expect(mend === null).toBe(state === 'good')
  // A Redis of one machine: what it has accepted goes with it.
  expect(findings.find(({ check }) => check === 'topology')).toMatchObject({ state: 'warn', mend: expect.stringContaining('replica') })
  expect((await tollgate('doctor', '--redis', 'redis://127.0.0.1:1')).code).toBe(3)
})

test('doctor says what the user of Redis lacks, as the words to give it, also where it may not even ask for INFO', async () => {
  const namespace = newNamespace()
  const at = new URL(namespace.url)
  const name = `few-${namespace.name}`
  for (const lacks of ['-xadd', '-info']) {
    await namespace.redis.call('ACL', 'SETUSER', name, 'reset', 'on', '>secret', '~*', '&*', '+@all', '-acl', lacks)
    at.username = name
    at.password = 'secret'
    const { code, output } = await tollgate('doctor', '--redis', at.href, '--json')
    const { findings } = JSON.parse(output) as { findings: { check: string; state: string; found: string; mend: string | null }[] }
    const command = lacks.slice(1)
    expect(findings.find(({ check }) => check === 'permissions')).toMatchObject({
      state: 'bad',
      found: `user ${name} may not use the commands ${command}`,
      mend: `ACL SETUSER ${name} +${command}`,
    })
    expect(code).toBe(1)
  }
  await namespace.redis.call('ACL', 'DELUSER', name)
})

test('top looks once, metrics are printed, a capacity is set, and the calls of a file are enqueued', { timeout: 60_000 }, async () => {
  const namespace = newNamespace()
  await namespace.open({ rules: [{ name: 'r', scope: 'user', limits: [{ requests: 1, per: 'day', algorithm: 'fixed_window' }] }] })
  const at = ['--redis', namespace.url, '--namespace', namespace.name]
  const seen = JSON.parse((await tollgate('top', '--once', '--json', ...at)).output) as Record<string, unknown>
  expect(Object.keys(seen)).toEqual(['at', 'state', 'sentence', 'todo', 'waiting', 'rules', 'limitedBy', 'lines', 'agents'])
  expect((await tollgate('top', '--every', '0', ...at)).code).toBe(2)
  expect((await tollgate('metrics', ...at)).output).toContain('\n# TYPE tollgate_ledger_open gauge\ntollgate_ledger_open 0\n')
  expect((await tollgate('capacity', 'set', 'llm', '100', ...at, '--json')).output).toBe('{"agent":"llm","requests":100,"per":"minute"}\n')
  expect((await tollgate('rules', 'list', ...at)).output).toMatch(/^name +scope +limits/)
  const folder = await mkdtemp(join(tmpdir(), 'tollgate-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  await writeFile(join(folder, 'calls.ndjson'), '{"agent":"a","id":"one"}\n\n{"agent":"a","id":"two"}\n')
  expect((await tollgate('enqueue', '--file', join(folder, 'calls.ndjson'), ...at, '--json')).output).toBe('{"enqueued":2,"refused":[]}\n')
  await writeFile(join(folder, 'bad.ndjson'), '{"agent":"a"}\n{"agent":7}\n')
  expect(await tollgate('enqueue', '--file', join(folder, 'bad.ndjson'), ...at)).toMatchObject({ code: 2, errors: expect.stringContaining('bad.ndjson:2: ') })
  for (const id of ['one', 'two']) await tollgate('cancel', id, ...at)
})

import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { freePort } from '../support/free-port.js'
import { startAgent } from '../support/http-agent.js'
import { newNamespace } from '../support/namespace.js'
import { until } from '../support/until.js'
import { WORKER_ENTRY, WorkerProcess } from '../support/worker-process.js'

/** A rules file of a test, which is removed when the test has finished. */
async function rulesFile(text: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'tollgate-test-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  const file = join(folder, 'rules.yaml')
  await writeFile(file, text)
  return file
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

test('a worker process calls its agents, serves its metrics, and finishes running calls after SIGTERM', async () => {
  const namespace = newNamespace()
  let release: () => void = () => {}
  const agent = await startAgent((response, count) => {
    const answer = () => response.end('{"usage":{"prompt_tokens":7,"completion_tokens":3}}')
    if (count === 1) answer()
    else release = answer
  })
  const rules = await rulesFile(
    `rules:\n  - { name: r, scope: agent, limits: [{ tokens: 1000, per: day, algorithm: fixed_window }] }\nagents: { llm: { baseUrl: '${agent.url}' } }\n`,
  )
  const port = await freePort()
  const worker = new WorkerProcess({ rules, redis: namespace.url, namespace: namespace.name, 'metrics-port': port })
  onTestFinished(async () => {
    await worker.end('SIGKILL')
  })
  await until('it takes calls', () => worker.takesCalls)
  const tollgate = await namespace.open()
  const first = await tollgate.enqueue({ agent: 'llm', cost: { tokens: 100 } })
  expect(await first.result()).toMatchObject({ status: 200, usage: { inputTokens: 7, outputTokens: 3 } })
  const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  expect(metrics).toContain('tollgate_calls_ended_total{agent="llm",how="done"} 1')
  expect(metrics).toContain('tollgate_tokens_total{agent="llm",kind="actual"} 10')

  const second = await tollgate.enqueue({ agent: 'llm', cost: { tokens: 100 } })
  const result = second.result()
  await until('the second call is at the agent', () => agent.requests.length === 2)
  const ended = worker.end('SIGTERM')
  await until('the worker logs SIGTERM', () => worker.log.includes('asked to stop'))
  release()
  expect(await ended).toBe(0)
  expect(await result).toMatchObject({ status: 200 })
  expect((await tollgate.gate.peek({ agent: 'llm', cost: { tokens: 0 } })).usage[0]?.used).toBe(20)
})

test('a worker process with a wrong setting names it and its source, and ends with exit code 2', async () => {
  const worker = new WorkerProcess({ rules: '/nowhere.yaml', concurrency: 'many' })
  expect(await worker.exited()).toBe(2)
  expect(worker.log).toMatch(/concurrency \(flag\): .*\(got "many"\)/)
})

test('a worker process whose metrics port is taken says so, and ends with exit code 2', async () => {
  const namespace = newNamespace()
  const rules = await rulesFile('rules: []\nagents: { llm: { baseUrl: "http://127.0.0.1:1" } }\n')
  const taken = await startAgent((response) => response.end())
  const { port } = new URL(taken.url)
  const worker = new WorkerProcess({ rules, redis: namespace.url, namespace: namespace.name, 'metrics-port': port })
  expect(await worker.exited()).toBe(2)
  expect(worker.log).toContain(`CONFIG_INVALID: metricsPort: the port is in use by another process (got ${port})`)
})

test('a worker process behind npx finishes its calls when npx is stopped', async () => {
  const namespace = newNamespace()
  const rules = await rulesFile('rules: []\nagents: { llm: { baseUrl: "http://127.0.0.1:1" } }\n')
  // What npx starts: a shell, and the worker in it.
  const shell = spawn(
    'sh',
    ['-c', `"${process.execPath}" "${WORKER_ENTRY}" --rules "${rules}" --redis "${namespace.url}" --namespace "${namespace.name}"; true`],
    {
      env: { ...process.env, npm_command: 'exec' },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  )
  let log = ''
  shell.stdout.on('data', (chunk: Buffer) => {
    log += chunk.toString()
  })
  await until('it takes calls', () => log.includes('taking calls'))
  const { pid } = JSON.parse(log.split('\n')[0] ?? '') as { pid: number }
  shell.kill('SIGTERM')
  await until('the worker has stopped', () => log.includes('"msg":"stopped"'))
  await until('its process is gone', () => !isAlive(pid))
})

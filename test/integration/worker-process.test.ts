import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { freePort } from '../support/free-port.js'
import { startAgent } from '../support/http-agent.js'
import { newNamespace } from '../support/namespace.js'
import { until } from '../support/until.js'
import { WorkerProcess } from '../support/worker-process.js'

test('a worker process calls its agents, serves its metrics, and finishes running calls after SIGTERM', async () => {
  const namespace = newNamespace()
  let release: () => void = () => {}
  const agent = await startAgent((response, count) => {
    const answer = () => response.end('{"usage":{"prompt_tokens":7,"completion_tokens":3}}')
    if (count === 1) answer()
    else release = answer
  })
  const folder = await mkdtemp(join(tmpdir(), 'tollgate-test-'))
  const rules = join(folder, 'rules.yaml')
  await writeFile(
    rules,
    `rules:\n  - { name: r, scope: agent, limits: [{ tokens: 1000, per: day, algorithm: fixed_window }] }\nagents: { llm: { baseUrl: '${agent.url}' } }\n`,
  )
  const port = await freePort()
  const worker = new WorkerProcess({ rules, redis: namespace.url, namespace: namespace.name, 'metrics-port': port })
  onTestFinished(async () => {
    await worker.end('SIGKILL')
    await rm(folder, { recursive: true })
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

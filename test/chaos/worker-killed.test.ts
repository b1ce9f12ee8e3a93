import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Queue } from 'bullmq'
import { expect, onTestFinished, test } from 'vitest'
import { startAgent } from '../support/http-agent.js'
import { newNamespace } from '../support/namespace.js'
import { until } from '../support/until.js'
import { WorkerProcess } from '../support/worker-process.js'

const CALLS = 2000
const KILLS = 10

test('ten workers killed at random moments of 2,000 calls lose none of them, and every slot comes back', { timeout: 180_000 }, async () => {
  const namespace = newNamespace()
  const agent = await startAgent((response) => void sleep(20).then(() => response.end('{"usage":{"prompt_tokens":5,"completion_tokens":5}}')))
  const folder = await mkdtemp(join(tmpdir(), 'tollgate-test-'))
  const rules = join(folder, 'rules.yaml')
  await writeFile(
    rules,
    `rules:
  - { name: account, scope: agent, limits: [{ requests: 400, per: second, burst: 40 }, { concurrency: 30, lease: 2s }] }
  - { name: tokens, scope: org, limits: [{ tokens: 1000000, per: minute }] }
agents:
  llm: { baseUrl: ${agent.url} }
`,
  )
  const flags = { rules, redis: namespace.url, namespace: namespace.name, concurrency: 40, 'lease-ms': 2000 }
  const workers = [new WorkerProcess(flags), new WorkerProcess(flags)]
  onTestFinished(async () => {
    await Promise.all(workers.map((worker) => worker.end('SIGKILL')))
    await rm(folder, { recursive: true })
  })
  await until('both workers take calls', () => workers.every((worker) => worker.takesCalls))

  const tollgate = await namespace.open()
  const queue = new Queue('calls', { connection: namespace.redis, prefix: tollgate.prefix })
  onTestFinished(() => queue.close())
  const tickets = await tollgate.enqueueMany(
    Array.from({ length: CALLS }, (_, index) => ({ agent: 'llm', org: `o${index % 5}`, cost: { tokens: 8 }, payload: { index } })),
  )
  expect(tickets.every(({ error }) => error === undefined)).toBe(true)

  // At ten random points of the progress, so that a kill may meet a worker at any step of its work.
  const moments = Array.from({ length: KILLS }, () => Math.floor(Math.random() * CALLS * 0.9)).sort((a, b) => a - b)
  for (const [index, moment] of moments.entries()) {
    await until(`${moment} calls are done`, async () => (await queue.getCompletedCount()) >= moment, 60_000)
    await workers[index % 2]?.end('SIGKILL')
    workers[index % 2] = new WorkerProcess(flags)
  }
  await until('every call is done', async () => (await queue.getCompletedCount()) === CALLS, 90_000)
  expect(await queue.getFailedCount()).toBe(0)
  // Only interrupted calls were sent twice: per kill at most as many as a worker runs at once.
  expect(agent.requests.length).toBeLessThanOrEqual(CALLS + KILLS * 40)
  const slots = namespace.keys.leases('account', 'llm')
  await until('every slot is back', async () => (await namespace.redis.zcount(slots, Date.now(), '+inf')) === 0)
  await until('no call stands in line or has a pass', async () => (await namespace.redis.exists(namespace.keys.lines, namespace.keys.passes)) === 0)
  for (const worker of workers) expect(await worker.end('SIGTERM')).toBe(0)
})

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Queue } from 'bullmq'
import { expect, onTestFinished, test } from 'vitest'
import { parse } from 'yaml'
import type { RuleSpec } from '../../src/index.js'
import { FactJournal } from '../support/fact-journal.js'
import { startAgent } from '../support/http-agent.js'
import { newNamespace } from '../support/namespace.js'
import { until } from '../support/until.js'
import { WorkerProcess } from '../support/worker-process.js'

const CALLS = 2000
const KILLS = 10
/** Calls that each worker runs at once. */
const PLACES = 40

const RULES = `rules:
  - { name: account, scope: agent, limits: [{ requests: 400, per: second, burst: 40 }, { concurrency: 30, lease: 2s }] }
  - { name: tokens, scope: org, limits: [{ tokens: 1000000, per: minute }] }
`

test('ten workers killed at random moments of 2,000 calls lose none of them, and every slot comes back', { timeout: 180_000 }, async () => {
  const namespace = newNamespace()
  const journal = new FactJournal((parse(RULES) as { rules: RuleSpec[] }).rules)
  const agent = await startAgent((response, _count, { url, body }) => {
    // Each worker calls the agent under a path of its own name.
    const ended = journal.started(`k${(JSON.parse(body) as { index: number }).index}`, url?.split('/')[1] ?? '')
    void sleep(20).then(() => {
      ended('done', { requests: 1, tokens: 10 })
      response.end('{"usage":{"prompt_tokens":5,"completion_tokens":5}}')
    })
  })
  const folder = await mkdtemp(join(tmpdir(), 'tollgate-test-'))
  const workers: { readonly name: string; readonly process: WorkerProcess }[] = []
  const up: Promise<void>[] = []
  const startWorker = async (place: number) => {
    const name = `w${up.length}`
    const rules = join(folder, `${name}.yaml`)
    await writeFile(rules, `${RULES}agents:\n  llm: { baseUrl: ${agent.url}/${name} }\n`)
    const process = new WorkerProcess({ rules, redis: namespace.url, namespace: namespace.name, concurrency: PLACES, 'lease-ms': 2000 })
    workers[place] = { name, process }
    up.push(journal.comes(name, process, PLACES))
  }
  onTestFinished(async () => {
    await Promise.all(workers.map(({ process }) => process.end('SIGKILL')))
    await rm(folder, { recursive: true })
  })
  await startWorker(0)
  await startWorker(1)
  await Promise.all(up)

  const tollgate = await namespace.open()
  const queue = new Queue('calls', { connection: namespace.redis, prefix: tollgate.prefix })
  onTestFinished(() => queue.close())
  const calls = Array.from({ length: CALLS }, (_, index) => ({ agent: 'llm', org: `o${index % 5}`, cost: { tokens: 8 }, payload: { index } }))
  const answered = journal.asked(calls, (index) => `k${index}`)
  const tickets = await tollgate.enqueueMany(calls)
  answered(tickets)
  expect(tickets.every(({ error }) => error === undefined)).toBe(true)

  // At ten random points of the progress, so that a kill may meet a worker at any step of its work.
  const moments = Array.from({ length: KILLS }, () => Math.floor(Math.random() * CALLS * 0.9)).sort((a, b) => a - b)
  for (const [index, moment] of moments.entries()) {
    await until(`${moment} calls are done`, async () => (await queue.getCompletedCount()) >= moment, 60_000)
    const victim = workers[index % 2] as (typeof workers)[number]
    await journal.kill(victim.name, victim.process)
    await startWorker(index % 2)
  }
  await until('every call is done', async () => (await queue.getCompletedCount()) === CALLS, 90_000)
  expect(await queue.getFailedCount()).toBe(0)
  // Only interrupted calls were sent twice: per kill at most as many as a worker runs at once.
  expect(agent.requests.length).toBeLessThanOrEqual(CALLS + KILLS * PLACES)
  const slots = namespace.keys.leases('account', 'llm')
  await until('every slot is back', async () => (await namespace.redis.zcount(slots, Date.now(), '+inf')) === 0)
  await until('no call stands in line or has a pass', async () => (await namespace.redis.exists(namespace.keys.lines, namespace.keys.passes)) === 0)
  await journal.keysLeft(namespace)
  expect(journal.reports(['never over', 'nothing lost', 'quiet', 'no error'])).toEqual([])
  await Promise.all(up)
  for (const { process } of workers) expect(await process.end('SIGTERM')).toBe(0)
})

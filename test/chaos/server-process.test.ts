import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { expect, onTestFinished, test } from 'vitest'
import { findRedis } from '../../src/cli/local-redis.js'
import { freePort } from '../support/free-port.js'
import { json, startAgent } from '../support/http-agent.js'
import { newNamespace } from '../support/namespace.js'
import { ServerProcess } from '../support/server-process.js'
import { until } from '../support/until.js'

const JSON_TYPE = { 'content-type': 'application/json' }
const BODY = JSON.stringify({ model: 'm', max_tokens: 5, messages: [] })

async function rulesFile(agentUrl: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'tollgate-test-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  const file = join(folder, 'rules.yaml')
  await writeFile(
    file,
    `rules:\n  - { name: slot, scope: agent, limits: [{ concurrency: 1, lease: 2s }] }\nagents: { llm: { baseUrl: '${agentUrl}', apiKeyEnv: LLM_KEY } }\n`,
  )
  return file
}

test('a server without configuration finds or starts a Redis, and ends it with itself', async () => {
  const port = await freePort()
  const started = await findRedis(port)
  expect(started.how).toContain('started')
  const found = await findRedis(port)
  expect(found).toMatchObject({ url: started.url, how: 'found at localhost' })
  const redis = new Redis(started.url)
  expect(await redis.config('GET', 'maxmemory-policy')).toEqual(['maxmemory-policy', 'noeviction'])
  redis.disconnect()
  await started.stop()
  const gone = new Redis(started.url, { retryStrategy: () => null, lazyConnect: true })
  gone.on('error', () => {})
  await expect(gone.connect()).rejects.toThrow()
})

test('at SIGTERM a server lets running calls end, sends those that wait away, and exits with 0; its log says what it lacks, and no key', async () => {
  const namespace = newNamespace()
  let release = () => {}
  const agent = await startAgent((response) => {
    release = () => json(response, { ok: true })
  })
  const server = new ServerProcess({ rules: await rulesFile(agent.url), redis: namespace.url, namespace: namespace.name }, { LLM_KEY: 'the-key-of-the-agent' })
  const url = await server.serving()
  expect(server.log).toContain('no keys: only this machine can reach the server')
  const post = () => fetch(`${url}/agents/llm/v1/chat/completions`, { method: 'POST', headers: JSON_TYPE, body: BODY })
  const running = post()
  await until('it is at the agent', () => agent.requests.length === 1)
  const waiting = post()
  const tollgate = await namespace.open()
  await until('the other one waits', async () => (await namespace.redis.zcard(namespace.keys.lines)) > 0)
  server.signal('SIGTERM')
  const sentAway = await waiting
  expect([sentAway.status, sentAway.headers.get('x-should-retry')]).toEqual([503, 'true'])
  release()
  expect(await (await running).json()).toEqual({ ok: true })
  expect(await server.exited()).toBe(0)
  expect(server.log).not.toContain('the-key-of-the-agent')
  expect((await tollgate.gate.peek({ agent: 'llm' })).allowed).toBe(true)
  expect((await namespace.allKeys()).filter((key) => key.includes('held-'))).toEqual([])
})

test('a server that is killed with clients held leaves nothing: slots end with their lease, lines go on, and its queue is removed', async () => {
  const namespace = newNamespace()
  const agent = await startAgent((response, count) => {
    if (count > 1) json(response, { count })
  })
  const flags = { rules: await rulesFile(agent.url), redis: namespace.url, namespace: namespace.name }
  const killed = new ServerProcess(flags, { LLM_KEY: 'the-key-of-the-agent' })
  const dead = await killed.serving()
  const post = (url: string) => fetch(`${url}/agents/llm/v1/chat/completions`, { method: 'POST', headers: JSON_TYPE, body: BODY })
  const broken = [post(dead), post(dead), post(dead)].map((one) =>
    one.then(
      () => 'answered',
      () => 'broken',
    ),
  )
  const records = async () => (await namespace.allKeys()).filter((key) => key.startsWith(namespace.keys.call('held-'))).length
  await until('one runs and two wait', async () => agent.requests.length === 1 && (await records()) >= 2)
  await killed.end('SIGKILL')
  expect(await Promise.all(broken)).toEqual(['broken', 'broken', 'broken'])
  const other = new ServerProcess(flags, { LLM_KEY: 'the-key-of-the-agent' })
  const url = await other.serving()
  // The slot of the dead server ends with its lease; the places of its calls hold up nothing after that.
  const answer = await post(url)
  expect(await answer.json()).toEqual({ count: 2 })
  const queues = async () => new Set((await namespace.allKeys()).flatMap((key) => /:(held-[0-9a-f]+):/.exec(key)?.[1] ?? []))
  await until('the queue of the dead server is removed', async () => (await queues()).size === 1, 60_000)
  expect(await other.end('SIGTERM')).toBe(0)
}, 120_000)

import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pino } from 'pino'
import { expect, onTestFinished, test } from 'vitest'
import { Alerts, type AlertsParts } from '../../src/alerts/alerts.js'
import { type AlertNotice, signedHeaders } from '../../src/alerts/notice.js'
import type { AlertPlan } from '../../src/policy/alert.js'
import { CallMetrics } from '../../src/telemetry/call-metrics.js'
import { type Namespace, newNamespace } from '../support/namespace.js'
import { until } from '../support/until.js'

interface Posted {
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

/** A webhook that refuses the first of what it is sent. */
async function startWebhook(): Promise<{ url: string; posted: Posted[] }> {
  const posted: Posted[] = []
  const server = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', (part: string) => {
      body += part
    })
    request.on('end', () => {
      posted.push({ headers: request.headers, body })
      response.writeHead(posted.length === 1 ? 503 : 204).end()
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`, posted }
}

/** The alerts of one process of a namespace, over given figures. */
function alertsOf(namespace: Namespace, plan: AlertPlan, waitedMs: () => number | null, parts: Partial<AlertsParts> = {}): Alerts {
  const line = () => ({ rule: 'r', scopeValue: 'u', limit: null, depth: 1, oldestMs: waitedMs(), sinceMs: 0, who: [] })
  const unused = () => Promise.reject(new Error('not asked for here'))
  const alerts = new Alerts({
    redis: namespace.redis,
    keys: namespace.keys,
    namespace: namespace.name,
    log: pino({ level: 'silent' }),
    metrics: new CallMetrics(),
    figures: {
      rules: () => ['r'],
      unchecked: async () => 0,
      history: { rule: unused, agent: unused, known: unused, spend: unused, now: async () => ({ atMs: 0, waiting: 1, lineCount: 1, lines: [line()] }) },
    },
    plan: () => plan,
    dispatches: () => false,
    works: () => true,
    webhookHosts: ['127.0.0.1'],
    everyMs: 20,
    ...parts,
  })
  return alerts
}

/** Removes the jobs of a test, which BullMQ keeps for a day. */
async function forget(namespace: Namespace, ...all: Alerts[]): Promise<void> {
  for (const alerts of all) await alerts.close(false)
  const keys = await namespace.allKeys()
  if (keys.length > 0) await namespace.redis.del(keys)
}

test('an alert is told once when it fires and once when it ends, whoever evaluates, and a webhook that fails is tried again', { timeout: 60_000 }, async () => {
  process.env['ALERTS_TEST_SECRET'] = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
  onTestFinished(() => {
    delete process.env['ALERTS_TEST_SECRET']
  })
  const namespace = newNamespace()
  const webhook = await startWebhook()
  const plan: AlertPlan = {
    list: [{ name: 'old', oldestWait: '10m', to: ['ops'] }],
    webhooks: { ops: { url: webhook.url, secretEnv: 'ALERTS_TEST_SECRET' } },
  }
  let waitedMs = 11 * 60_000
  const first = alertsOf(namespace, plan, () => waitedMs)
  const second = alertsOf(namespace, plan, () => waitedMs)
  const channel = namespace.redis.duplicate()
  const heard: AlertNotice[] = []
  channel.on('message', (_channel: string, message: string) => void heard.push((JSON.parse(message) as { alert: AlertNotice }).alert))
  await channel.subscribe(namespace.keys.notices)
  onTestFinished(() => channel.disconnect())
  const nowMs = Date.now()
  // Both believe that they hold the lease.
  for (let n = 0; n < 3; n++) await Promise.all([first.evaluate(plan, nowMs + n), second.evaluate(plan, nowMs + n)])
  await until('the webhook has taken the firing', () => webhook.posted.length >= 2)
  expect(webhook.posted.map(({ headers }) => headers['webhook-id'])).toEqual(Array(2).fill(webhook.posted[0]?.headers['webhook-id']))
  const { headers, body } = webhook.posted[1] as Posted
  const signed = signedHeaders(String(headers['webhook-id']), body, 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', Number(headers['webhook-timestamp']) * 1000)
  expect(headers).toMatchObject(signed)
  expect(JSON.parse(body)).toMatchObject({
    type: 'tollgate.alert.firing',
    subject: 'old/r',
    data: { alert: 'old', subject: 'r', state: 'firing', until: null },
  })
  waitedMs = 0
  for (let n = 1; n <= 3; n++) await Promise.all([first.evaluate(plan, nowMs + 60_000 * n), second.evaluate(plan, nowMs + 60_000 * n)])
  await until('the webhook has taken the end', () => webhook.posted.length >= 3)
  expect(JSON.parse((webhook.posted[2] as Posted).body)).toMatchObject({ type: 'tollgate.alert.ended', data: { id: JSON.parse(body).data.id, state: 'ended' } })
  expect(heard.map(({ state }) => state).filter((state, n, all) => all.indexOf(state) === n)).toEqual(['firing', 'ended'])
  expect(webhook.posted).toHaveLength(3)
  expect(await namespace.redis.exists(namespace.keys.alerts)).toBe(0)
  await forget(namespace, first, second)
})

test('an alert that a dead process has entered and not told is told by the next one; one whose figures are not known stays', async () => {
  const namespace = newNamespace()
  const plan: AlertPlan = { list: [{ name: 'old', oldestWait: '10m' }], webhooks: {} }
  let waitedMs: number | null = 11 * 60_000
  const dead = alertsOf(namespace, plan, () => waitedMs)
  await dead.evaluate(plan)
  const [[key = '', text = ''] = []] = Object.entries(await namespace.redis.hgetall(namespace.keys.alerts))
  await namespace.redis.hset(namespace.keys.alerts, key, JSON.stringify({ ...JSON.parse(text), told: false }))
  const metrics = new CallMetrics()
  const next = alertsOf(namespace, plan, () => waitedMs, { metrics })
  await next.evaluate(plan)
  expect(metrics.cells.sum('alerts')).toBe(1)
  const blind = alertsOf(namespace, plan, () => waitedMs, {
    figures: { rules: () => [], unchecked: async () => 0, history: { now: async () => null } as unknown as AlertsParts['figures']['history'] },
  })
  for (let n = 1; n <= 3; n++) await blind.evaluate(plan, Date.now() + n * 60_000)
  expect(await namespace.redis.hlen(namespace.keys.alerts)).toBe(1)
  // An alert that the rules do not name any more has ended.
  waitedMs = null
  for (let n = 1; n <= 2; n++) await next.evaluate({ list: [], webhooks: {} }, Date.now() + n * 60_000)
  expect(await namespace.redis.exists(namespace.keys.alerts)).toBe(0)
  await forget(namespace, dead, next, blind)
})

test('the alerts of a rules file reach the listeners of a process that does not evaluate', { timeout: 60_000 }, async () => {
  const namespace = newNamespace()
  const { writeFile, mkdtemp, rm } = await import('node:fs/promises')
  const folder = await mkdtemp('/tmp/tollgate-alerts-')
  onTestFinished(() => rm(folder, { recursive: true }))
  const file = `${folder}/tollgate.yaml`
  await writeFile(
    file,
    'rules:\n  - { name: r, scope: user, limits: [{ requests: 1, per: day, algorithm: fixed_window }] }\nalerts:\n  - { name: old, oldestWait: 1s }\n',
  )
  const worker = await namespace.open({ rules: file })
  worker.worker(async () => ({}))
  const app = await namespace.open()
  const heard: AlertNotice[] = []
  app.on('alert', (notice) => heard.push(notice))
  await (await app.enqueue({ agent: 'a', user: 'u' })).result()
  const waiting = await app.enqueue({ agent: 'a', user: 'u' })
  await until('the alert fires', () => heard.some(({ state }) => state === 'firing'), 40_000)
  expect(heard[0]).toMatchObject({ alert: 'old', kind: 'oldestWait', subject: 'r', namespace: namespace.name })
  await app.cancel(waiting.id)
})

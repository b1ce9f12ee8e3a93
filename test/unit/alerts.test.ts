import { expect, test } from 'vitest'
import { AlertEvaluator, type AlertFigures } from '../../src/alerts/evaluate.js'
import { cloudEvent, signedHeaders } from '../../src/alerts/notice.js'
import { isInternalAddress, WebhookSender } from '../../src/alerts/webhook.js'
import type { HistoryPoint, Spend } from '../../src/history/answers.js'
import { parseRules } from '../../src/index.js'
import { DAY, HOUR, MINUTE } from '../../src/model/time.js'
import type { AlertSpec } from '../../src/policy/alert.js'

/** Noon of a day. */
const NOW = 20_000 * DAY + 12 * HOUR

const point = (values: Partial<HistoryPoint>) => ({ arrived: 0, refused: 0, limited429: 0, ...values }) as HistoryPoint
const spend = (values: Partial<Spend>) => ({ name: 'acme', today: 0, days: [], budget: null, ...values }) as Spend

/** Figures as a history gives them, of one rule `r`, one agent `llm` and one org. */
function figures(given: { points?: HistoryPoint[]; spend?: Spend; oldestMs?: number; unchecked?: () => number }): AlertFigures {
  const { points = [], oldestMs } = given
  const line = { rule: 'r', scopeValue: 'u', limit: null, depth: 1, oldestMs: oldestMs ?? null, sinceMs: 0, who: [] }
  return {
    rules: () => ['r'],
    unchecked: async () => given.unchecked?.() ?? 0,
    history: {
      rule: async () => points,
      agent: async () => points,
      known: async () => ({ rules: ['r'], agents: ['llm'], lines: [] }),
      now: async () => (oldestMs === undefined ? null : { atMs: NOW, waiting: 1, lineCount: 1, lines: [line] }),
      spend: async ({ by, unit }) => (given.spend !== undefined && by === 'org' && unit === 'usd' ? [given.spend] : []),
    },
  }
}

const evaluate = (spec: Omit<AlertSpec, 'name'>, of: AlertFigures) => new AlertEvaluator(of).evaluate({ name: 'a', ...spec }, NOW)

test('the refusal rate of a rule fires at its bound, and not for a handful of calls', async () => {
  const of = (arrived: number, refused: number) => figures({ points: [point({ arrived, refused: refused - 1 }), point({ refused: 1 })] })
  expect(await evaluate({ refusalRate: 0.1 }, of(100, 10))).toMatchObject([{ subject: 'r', value: 0.1, sentence: 'rule r refuses 10 % of its calls' }])
  expect(await evaluate({ refusalRate: 0.1 }, of(100, 9))).toEqual([])
  expect(await evaluate({ refusalRate: 0.1 }, of(10, 9))).toEqual([])
  expect(await evaluate({ refusalRate: 0.1, rules: ['other*'] }, of(100, 50))).toEqual([])
})

test('the oldest wait of a rule, and that it is not known where no process has looked', async () => {
  expect(await evaluate({ oldestWait: '10m' }, figures({ oldestMs: 11 * MINUTE }))).toMatchObject([{ subject: 'r', value: 11 * MINUTE }])
  expect(await evaluate({ oldestWait: '10m' }, figures({ oldestMs: 9 * MINUTE }))).toEqual([])
  await expect(evaluate({ oldestWait: '10m' }, figures({}))).rejects.toThrow(/no process/)
})

const budget = (values: Partial<NonNullable<Spend['budget']>>) =>
  spend({
    budget: {
      rule: 'teams',
      limit: 'usd/month',
      amount: 100,
      used: 0,
      windowMs: 30 * DAY,
      endsMs: NOW + 10 * DAY,
      paceFactor: 1,
      runsOutMs: null,
      runsOutRange: null,
      ...values,
    },
  })

test('a budget fires at 80 % and at 100 %, and by its pace where it runs out before its window ends', async () => {
  const at = (used: number) => figures({ spend: budget({ used }) })
  expect(await evaluate({ budgetSpent: 0.8 }, at(80))).toMatchObject([{ subject: 'org/acme', sentence: 'org acme has spent 80 % of teams/usd/month' }])
  expect(await evaluate({ budgetSpent: 0.8 }, at(79))).toEqual([])
  expect(await evaluate({ budgetSpent: 1 }, at(99))).toEqual([])
  expect(await evaluate({ budgetSpent: 1 }, at(100))).toHaveLength(1)
  const early = await evaluate({ budgetPace: true }, figures({ spend: budget({ used: 60, runsOutMs: NOW + 4 * DAY }) }))
  expect(early).toMatchObject([{ sentence: 'teams/usd/month of org acme runs out in 4 d, 6 d before its window ends' }])
  expect(await evaluate({ budgetPace: true }, figures({ spend: budget({ runsOutMs: NOW + 11 * DAY }) }))).toEqual([])
})

test('refusals of an agent, and calls that were let in unchecked within the time', async () => {
  const of = figures({ points: [point({ limited429: 3 }), point({ limited429: 4 })] })
  expect(await evaluate({ agent429: 7 }, of)).toMatchObject([{ subject: 'llm', value: 7 }])
  expect(await evaluate({ agent429: 8 }, of)).toEqual([])
  expect(await evaluate({ agent429: 1, agents: ['other'] }, of)).toEqual([])
  let sum = 40
  const evaluator = new AlertEvaluator(figures({ unchecked: () => sum }))
  const at = (ms: number) => evaluator.evaluate({ name: 'a', unchecked: 5 }, NOW + ms)
  expect(await at(0)).toEqual([])
  sum = 45
  expect(await at(MINUTE)).toMatchObject([{ value: 5, subject: '' }])
  expect(await at(7 * MINUTE)).toEqual([])
})

test('unusual traffic is against the usual day of the same scope value, once its whole day is exceeded', async () => {
  const days = (today: number) => [...[10, 12, 0, 8].map((amount, n) => ({ atMs: NOW - (5 - n) * DAY, amount })), { atMs: NOW, amount: today }]
  const of = (today: number) => figures({ spend: spend({ today, days: days(today) }) })
  // At noon 20 is four times as much as usual by then.
  expect(await evaluate({ unusualTraffic: 4 }, of(20))).toMatchObject([{ subject: 'org/acme', value: 4 }])
  expect(await evaluate({ unusualTraffic: 4 }, of(19))).toEqual([])
  expect(await evaluate({ unusualTraffic: 1.5 }, of(8))).toEqual([])
  const young = figures({ spend: spend({ today: 90, days: days(90).slice(-2) }) })
  expect(await evaluate({ unusualTraffic: 4 }, young)).toEqual([])
})

test('a notice is a CloudEvent, signed as Standard Webhooks has it', () => {
  const notice = {
    alert: 'a',
    kind: 'oldestWait',
    subject: 'r',
    value: 1,
    bound: 1,
    sentence: 's',
    id: 'x',
    since: '2026-01-01T00:00:00.000Z',
    namespace: 'n',
  } as const
  expect(cloudEvent({ ...notice, state: 'ended', until: '2026-01-02T00:00:00.000Z' })).toMatchObject({
    specversion: '1.0',
    id: 'x.ended',
    source: '/tollgate/n',
    type: 'tollgate.alert.ended',
    subject: 'a/r',
    time: '2026-01-02T00:00:00.000Z',
  })
  // The example of the specification's reference implementation.
  const headers = signedHeaders('msg_p5jXN8AQM9LWM0D4loKWxJek', '{"test": 2432232314}', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 1614265330_000)
  expect(headers['webhook-signature']).toBe('v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=')
  expect(headers['webhook-timestamp']).toBe('1614265330')
})

test.each([
  '127.0.0.1',
  '10.1.2.3',
  '169.254.169.254',
  '192.168.0.1',
  '100.64.0.1',
  '0.0.0.0',
  '::1',
  '::ffff:127.0.0.1',
  'fd00::1',
  'fe80::1',
  '64:ff9b::7f00:1',
])('%s is not reached by a webhook', async (address) => {
  expect(isInternalAddress(address)).toBe(true)
  const url = `https://${address.includes(':') ? `[${address}]` : address}/hook`
  const sender = new WebhookSender([], { HOOK_SECRET: 's' })
  await expect(sender.send('w', { url, secretEnv: 'HOOK_SECRET' }, 'id', '{}')).rejects.toThrow(/must not be an address/)
  await sender.close()
})

test('a public address is none of those; names of this machine, http, and other variables than secrets are refused', async () => {
  for (const address of ['8.8.8.8', '1.1.1.1', '2606:4700::1111']) expect(isInternalAddress(address)).toBe(false)
  const sender = new WebhookSender([], { HOOK_SECRET: 's', HOME: 'h' })
  const send = (url: string, secretEnv = 'HOOK_SECRET') => sender.send('w', { url, secretEnv }, 'id', '{}')
  await expect(send('https://localhost:1/')).rejects.toThrow()
  await expect(send('http://example.com/')).rejects.toThrow(/must be https/)
  await expect(send('https://example.com/', 'HOME')).rejects.toThrow(/_SECRET, _KEY or _TOKEN/)
  await expect(send('https://example.com/', 'OTHER_SECRET')).rejects.toThrow(/is not set/)
  await sender.close()
})

test.each([
  ['alerts: [{ name: a }]', /exactly one of refusalRate/],
  ['alerts: [{ name: a, unchecked: 1, agent429: 2 }]', /exactly one of/],
  ['alerts: [{ name: a, unchecked: 1 }, { name: a, unchecked: 2 }]', /is taken by alerts.0/],
  ['alerts: [{ name: a, unchecked: 1, to: [ops] }]', /must be the name of one of the webhooks/],
  ['alerts: [{ name: a, oldestWait: soon }]', /must be a duration from 1s to 30d/],
  ['webhooks: { ops: { url: "ftp://x", secretEnv: A_SECRET } }', /must be a https/],
])('a rules file with %s is refused', (text, complaint) => {
  expect(() => parseRules(`rules: []\n${text}\n`, 'f.yaml')).toThrow(complaint)
})

import { afterAll, beforeAll, expect, test } from 'vitest'
import { dashboardPages } from '../../src/dashboard/dashboard.js'
import type { ServerSettings } from '../../src/http/server-settings.js'
import type { Call } from '../../src/index.js'
import { endBrowser, hasChromium, isLive, layoutShift, openPage, overflows, seriousFaults, startBrowser } from '../support/browser.js'
import { newNamespace } from '../support/namespace.js'
import { startServer, type TestServer } from '../support/server.js'
import { until } from '../support/until.js'

const VIEWER = 'viewer-key-0123456789'
const ADMIN = 'administrator-key-0123456789'
/** What browsers call a good layout shift: figures that come may add a row. */
const GOOD_SHIFT = 0.1
const RULES = [
  { name: 'account', scope: 'agent', limits: [{ requests: 6, per: 'hour', burst: 1 }, { concurrency: 5 }] },
  { name: 'per-org', scope: 'org', limits: [{ requests: 600, per: 'minute' }] },
]

beforeAll(async () => {
  if (hasChromium) await startBrowser()
})
afterAll(endBrowser)

/** A server with calls of two orgs in one line: c-0 has started or is about to, the others wait. */
async function start(settings: Partial<ServerSettings> = {}, calls = 6): Promise<TestServer> {
  const namespace = newNamespace()
  const server = await startServer(namespace, { settings, open: { rules: RULES }, pages: dashboardPages({ redis: namespace.url }) })
  server.tollgate.worker(async () => 'done')
  const call = (n: number): Call => ({ id: `c-${n}`, agent: 'openai', model: 'gpt-4o', org: n % 3 === 0 ? 'acme' : 'globex', user: 'ida', payload: {} })
  await server.tollgate.enqueueMany(Array.from({ length: calls }, (_, n) => call(n)))
  return server
}

/** Takes back what a test has left in line. */
async function cancelAll({ tollgate }: TestServer): Promise<void> {
  const { calls } = await tollgate.calls()
  for (const { id } of calls) await tollgate.cancel(id)
}

const LOOKS = [
  { width: 1280, dark: false },
  { width: 1280, dark: true },
  { width: 360, dark: false },
  { width: 360, dark: true },
]

test.skipIf(!hasChromium).each(LOOKS)('every page is accessible, fits and does not move: %o', async (look) => {
  const server = await start()
  await server.tollgate.pause({ team: 'search' }, { by: 'ann', reason: 'new key comes at nine' })
  await server.tollgate.overrides.grant({ for: { org: 'globex' }, allow: { times: 2 }, reason: 'testing', forMs: 60_000, by: 'ann' })
  // The first figures of what was spent add rows to the page of budgets.
  await until('what is spent is known', async () => (await server.tollgate.history.spend({ by: 'org', unit: 'tokens' })).length > 0)
  const page = await openPage(look)
  for (const path of ['/', '/lines', '/lines?line=account%2Fopenai', '/call', '/call?id=c-2', '/budgets', '/rules?edit=account']) {
    await page.goto(server.url + path)
    await isLive(page)
    expect(await seriousFaults(page), path).toEqual([])
    expect(await overflows(page), `${path} overflows`).toBe(false)
    expect(await layoutShift(page), `${path} moves`).toBeLessThan(GOOD_SHIFT)
  }
  await cancelAll(server)
})

test.skipIf(!hasChromium)('a line opens to its calls, a call is cancelled after one question, and the address has the state', async () => {
  const server = await start()
  const page = await openPage()
  await page.goto(`${server.url}/lines`)
  await page.getByRole('link', { name: 'account · openai' }).first().click()
  await page.waitForURL(/line=account%2Fopenai/)
  const row = page.locator('.inner tbody tr').filter({ hasText: 'c-4' })
  await row.getByRole('button', { name: 'Cancel call c-4' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByRole('button', { name: 'Leave it' }).click()
  expect((await server.tollgate.explain('c-4')).state).toBe('waiting')
  await row.getByRole('button', { name: 'Cancel call c-4' }).click()
  await dialog.getByRole('button', { name: 'Cancel the call' }).click()
  await page.getByText('Call c-4 was cancelled.').waitFor()
  await row.waitFor({ state: 'detached' })
  await page.getByRole('link', { name: 'c-2', exact: true }).click()
  await page.waitForURL(/call\?id=c-2/)
  await page.getByRole('heading', { level: 1, name: /calls? goes? before it|is the next/ }).waitFor()
  await page.goBack()
  await page.getByRole('link', { name: 'c-2', exact: true }).waitFor()
  await cancelAll(server)
})

test.skipIf(!hasChromium)('figures come by themselves, and a title says the verdict', async () => {
  const server = await start({}, 0)
  const page = await openPage()
  await page.goto(`${server.url}/lines`)
  await page.getByText('No call waits: every call').waitFor()
  await server.tollgate.enqueueMany([1, 2, 3].map((n) => ({ id: `late-${n}`, agent: 'openai', org: 'acme', payload: {} })))
  await page.getByRole('link', { name: 'account · openai' }).waitFor()
  expect(await page.title()).toMatch(/^[●▲■○] (Flowing|Slowed|Stopped|Unknown)/)
  await cancelAll(server)
})

test.skipIf(!hasChromium)('a rule is edited with its faults, difference and effect, and applied', async () => {
  const server = await start()
  const page = await openPage()
  await page.goto(`${server.url}/rules`)
  await page.getByRole('link', { name: 'Edit account' }).click()
  const text = page.getByRole('textbox', { name: /account/ })
  const yaml = await text.inputValue()
  await text.fill(yaml.replace('requests: 6', 'requests: none'))
  await page.getByText(/line 4: limits\.0\.requests/).waitFor()
  await expect.poll(() => page.getByRole('button', { name: 'Apply…' }).isDisabled()).toBe(true)
  await text.fill(yaml.replace('requests: 6', 'requests: 60'))
  await page.getByText('Valid.').waitFor()
  await page.locator('.diff .added').filter({ hasText: 'requests: 60' }).waitFor()
  await page.getByRole('button', { name: 'Apply…' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Apply' }).click()
  await page.getByText('The rule account is in force.').waitFor()
  expect(server.tollgate.rules.get('account')?.limits[0]?.requests).toBe(60)
  await page.getByText('limits.0.requests 6 → 60').waitFor()
  await page.getByRole('link', { name: 'Add a rule' }).click()
  await page.getByRole('textbox', { name: /A new rule/ }).fill('name: by-user\nscope: user\nlimits:\n  - { requests: 5, per: minute }\n')
  await page.getByRole('button', { name: 'Apply…' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Apply' }).click()
  await page.getByText('The rule by-user is in force.').waitFor()
  await page.goto(`${server.url}/rules?edit=by-user`)
  await page.getByRole('button', { name: 'Remove the rule by-user' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Remove the rule' }).click()
  await page.getByText('The rule by-user was removed.').waitFor()
  expect(server.tollgate.rules.get('by-user')).toBeNull()
  await cancelAll(server)
})

test.skipIf(!hasChromium)('overrides, pauses, capacity and resets: each asks once with its effect, and is done', async () => {
  const server = await start()
  const page = await openPage()
  await page.goto(`${server.url}/rules?kind=org&name=globex&rules=per-org&allow=0.5%C3%97#grant`)
  const confirm = (button: string) => page.getByRole('dialog').getByRole('button', { name: button }).click()
  await page.getByRole('button', { name: 'Grant…' }).click()
  await page.getByText(/300 requests\/minute instead of 600/).waitFor()
  await confirm('Grant')
  await page.getByText('The override for org globex is in force.').waitFor()
  await page.getByRole('button', { name: 'End the override for org globex' }).click()
  await confirm('End the override')
  await page.getByText('The override for org globex has ended.').waitFor()
  expect(server.tollgate.overrides.list()).toEqual([])

  const pauses = page.locator('#pauses')
  await pauses.getByLabel('Name').fill('anthropic')
  await pauses.getByLabel('Why').fill('bill is late')
  await pauses.getByRole('button', { name: 'Pause…' }).click()
  await confirm('Pause')
  await page.getByText('“bill is late”').waitFor()
  expect(server.tollgate.paused()).toMatchObject([{ for: { agent: 'anthropic' }, by: 'dashboard', reason: 'bill is late' }])
  await page.getByRole('button', { name: 'Resume agent anthropic' }).click()
  await confirm('Resume')
  await page.getByText('agent anthropic was resumed.').waitFor()
  expect(server.tollgate.paused()).toEqual([])

  const capacity = page.locator('.card').filter({ hasText: 'Capacity by hand' })
  await capacity.getByLabel('Agent').fill('anthropic')
  await capacity.getByLabel('Requests').fill('30')
  await capacity.getByRole('button', { name: 'Set…' }).click()
  await page.getByText('At most 30 requests a minute start at anthropic').waitFor()
  await confirm('Set')
  await page.getByText('The capacity of anthropic is set.').waitFor()
  expect(await server.tollgate.capacity.get('anthropic')).toMatchObject({ limit: 30 })

  const reset = page.locator('.card').filter({ hasText: 'Reset a meter' })
  await reset.getByLabel('Rule').selectOption('per-org')
  await reset.getByLabel('Value').fill('nothing')
  await reset.getByRole('button', { name: 'Reset…' }).click()
  await page.getByText('Nothing is counted there').waitFor()
  await confirm('Reset')
  await page.getByText('What per-org had counted was forgotten.').waitFor()
  await cancelAll(server)
})

test.skipIf(!hasChromium)('a viewer signs in, sees all and finds every control off; a fault of the server is told in its words', async () => {
  const server = await start({ viewerKeys: [VIEWER], adminKeys: [ADMIN] })
  const page = await openPage()
  const signIn = async (key: string) => {
    await page.getByLabel('Key', { exact: true }).fill(key)
    await page.getByLabel('Your name').fill('ann')
    await page.getByRole('button', { name: 'Sign in' }).click()
  }
  await page.goto(`${server.url}/login`)
  expect(await seriousFaults(page)).toEqual([])
  await signIn(VIEWER)
  await page.goto(`${server.url}/lines?line=account%2Fopenai`)
  await page.getByText('Your key may look, and change nothing').waitFor()
  expect(
    await page
      .getByRole('button', { name: /^Cancel call/ })
      .first()
      .isDisabled(),
  ).toBe(true)
  await page.goto(`${server.url}/rules?edit=account`)
  for (const button of await page.locator('main button').all()) expect(await button.isDisabled(), (await button.textContent()) ?? '').toBe(true)
  await page.getByRole('button', { name: 'Sign out' }).click()
  await signIn(ADMIN)
  await page.goto(`${server.url}/rules`)
  await page.locator('#pauses').getByLabel('Pause').selectOption('rule')
  await page.locator('#pauses').getByLabel('Name').fill('account')
  await page.getByRole('button', { name: 'Pause…' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Pause' }).click()
  await page.getByText('rule account is paused.').waitFor()
  expect(server.tollgate.paused()).toMatchObject([{ by: 'ann' }])
  await server.tollgate.resume({ rule: 'account' })
  await cancelAll(server)
})

test.skipIf(!hasChromium)('the pages are used with the keyboard alone', async () => {
  const server = await start()
  const page = await openPage()
  await page.goto(`${server.url}/lines`)
  await isLive(page)
  await page.keyboard.press('Tab')
  expect(await page.evaluate('document.activeElement.textContent')).toBe('Skip to the page')
  await page.locator('.twist').first().focus()
  await page.keyboard.press('Enter')
  await page.getByRole('button', { name: 'Cancel call c-4' }).waitFor()
  await page.getByRole('button', { name: 'Cancel call c-4' }).focus()
  await page.keyboard.press('Enter')
  await page.getByRole('dialog').waitFor()
  await page.keyboard.press('Escape')
  await page.getByRole('dialog').waitFor({ state: 'detached' })
  expect(await page.evaluate('document.activeElement.getAttribute("aria-label")')).toBe('Cancel call c-4')
  await cancelAll(server)
})

test.skipIf(!hasChromium)('without figures the page says of when they are, and offers no change', async () => {
  const server = await start()
  const page = await openPage({ quiet: false })
  await page.goto(`${server.url}/lines?line=account%2Fopenai`)
  await isLive(page)
  await cancelAll(server)
  await page.clock.install()
  await page.route('**/dashboard/**', (route) => route.abort('connectionclosed'))
  await page.goto(`${server.url}/rules`)
  await page.clock.runFor(7000)
  await page.getByText(/^as of \d\d:\d\d:\d\d$/).waitFor()
  expect(await page.getByRole('button', { name: 'Grant…' }).isDisabled()).toBe(true)
  expect(await page.title()).toMatch(/^○ Unknown/)
  await page.unroute('**/dashboard/**')
})

test.skipIf(!hasChromium)('Bull Board shows why a limited queue waits, and of each waiting job its place, its start and its limit', async () => {
  const server = await start({ viewerKeys: [VIEWER] })
  const out = await fetch(`${server.url}/queues/`, { headers: { 'sec-fetch-dest': 'document' }, redirect: 'manual' })
  expect([out.status, out.headers.get('location')]).toEqual([303, '/login'])
  expect((await fetch(`${server.url}/queues/api/queues`)).status).toBe(401)
  const as = { authorization: `Bearer ${VIEWER}` }
  expect((await server.send('PUT', '/queues/api/queues/calls/pause', {}, as)).status).toBe(403)
  const read = async () =>
    (await server.send('GET', '/queues/api/queues?activeQueue=calls&status=delayed&page=1&jobsPerPage=10', undefined, as)).json as {
      queues: { readOnlyMode: boolean; activeRateLimitTtl: number; description?: string; jobs: { name: string; data: Record<string, unknown> }[] }[]
    }
  await expect.poll(async () => (await read()).queues[0]?.description, { timeout: 10_000 }).toContain('account')
  const [queue] = (await read()).queues
  expect(queue?.activeRateLimitTtl).toBeGreaterThan(0)
  expect(queue).toMatchObject({
    readOnlyMode: true,
    description: expect.stringMatching(/^\d calls of the namespace wait in line, the longest line for account · openai · requests\/hour/),
  })
  const names = queue?.jobs.map(({ name }) => name) ?? []
  expect(names.filter((name) => /^openai · place \d, starts in .*: account · openai · requests\/hour$/.test(name)).length).toBeGreaterThan(3)
  expect(queue?.jobs.find(({ name }) => name.includes('place'))?.data['(waits)']).toMatchObject({
    state: 'waiting',
    waitsFor: 'RATE',
    limit: 'account · openai · requests/hour',
  })
  const page = await openPage()
  await page.goto(`${server.url}/login`)
  await page.getByLabel('Key', { exact: true }).fill(VIEWER)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('link', { name: 'Queues' }).click()
  await page.waitForURL(/queues/)
  await page.goto(`${server.url}/queues/queue/calls?status=delayed`)
  await page
    .getByText(/openai · place 2, starts in/)
    .first()
    .waitFor()
  await cancelAll(server)
})

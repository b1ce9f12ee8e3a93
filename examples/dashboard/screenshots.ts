import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { type Browser, chromium } from 'playwright-core'
import { dashboardPages } from '../../src/dashboard/dashboard.js'
import { Server } from '../../src/http/server.js'
import { serverSettings } from '../../src/http/server-settings.js'
import { Tollgate } from '../../src/index.js'
import { PRICES, playAgents, RULES, sendTraffic } from './traffic.js'

/** Traffic first: a picture of pages without a history says nothing. */
const TRAFFIC_MS = 1000 * Number(process.env['TRAFFIC_SECONDS'] ?? 240)
const PROGRAM = process.env['CHROMIUM'] ?? '/usr/bin/chromium'
const FOLDER = join(process.cwd(), 'docs', 'images')

const PICTURES = [
  { name: 'now', path: '/', width: 1280, dark: false },
  { name: 'now-phone', path: '/', width: 360, dark: true },
  { name: 'lines', path: '/lines?line=account%2Fopenai', width: 1280, dark: true },
  { name: 'call', path: 'call', width: 1280, dark: false },
  { name: 'budgets', path: '/budgets', width: 1280, dark: false },
  { name: 'rules', path: '/rules?edit=account', width: 1280, dark: false },
] as const

async function takePictures(browser: Browser, url: string, callId: string): Promise<void> {
  mkdirSync(FOLDER, { recursive: true })
  for (const { name, path, width, dark } of PICTURES) {
    const page = await browser.newPage({ viewport: { width, height: 820 }, colorScheme: dark ? 'dark' : 'light', reducedMotion: 'reduce' })
    await page.goto(url + (path === 'call' ? `/call?id=${encodeURIComponent(callId)}` : path))
    await page.locator('html[data-live]').waitFor({ state: 'attached' })
    if (name === 'rules') {
      const text = page.getByRole('textbox', { name: /account/ })
      await text.fill((await text.inputValue()).replace('tokens: 90000', 'tokens: 120000'))
      await page.getByText('Valid.').waitFor()
    }
    // The plot is drawn when its program has come.
    await page.waitForLoadState('load')
    await sleep(500)
    await page.screenshot({ path: join(FOLDER, `${name}.png`), fullPage: name !== 'lines' && name !== 'now-phone' })
    await page.close()
    console.log(`docs/images/${name}.png`)
  }
}

/** Serves the pages over a namespace of its own, plays traffic, and takes a picture of each page. */
async function main(): Promise<void> {
  if (!existsSync(PROGRAM)) throw new Error(`there is no Chromium at ${PROGRAM}: install chromium, or set CHROMIUM`)
  const redis = process.env['REDIS_URL']
  const log = pino({ level: 'error' })
  const open = { redis, namespace: `screenshots-${process.pid}`, logger: log }
  const tollgate = await Tollgate.open({ ...open, rules: RULES, prices: PRICES, actor: 'ann' })
  const parts = { tollgate, settings: serverSettings.parse({ port: 0 }), log, version: '0.1.0', agents: {}, environment: {} }
  const server = new Server({ ...parts, pages: dashboardPages({ redis }) })
  const url = await server.start()
  const stop = new AbortController()
  playAgents(tollgate)
  const sending = sendTraffic(tollgate, stop.signal)
  await tollgate.pause({ team: 'search' }, { by: 'ann', reason: 'new key comes at 9' })
  await tollgate.overrides.grant({ for: { org: 'globex' }, rules: ['budget'], allow: { times: 2 }, reason: 'customer_request', forMs: 86_400_000 })
  await sleep(TRAFFIC_MS)
  const browser = await chromium.launch({ executablePath: PROGRAM, args: ['--no-sandbox', '--disable-dev-shm-usage'] })
  const { calls } = await tollgate.calls({ state: 'waiting', rule: 'account', limit: 1 })
  const { id = '' } = calls[0] ?? {}
  // Until that call has run: a life that has ended has all there is to see.
  for (let n = 0; n < 120 && (await tollgate.explain(id)).state !== 'done'; n++) await sleep(500)
  await takePictures(browser, url, id)
  await browser.close()
  stop.abort()
  await sending
  await server.close()
  await tollgate.close()
}

await main()
process.exit()

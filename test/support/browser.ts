import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { type Browser, chromium, type Page } from 'playwright-core'
import { expect, onTestFinished } from 'vitest'

/** Where the CI (`.ci/run`) and Debian put it. */
const PROGRAM = process.env['CHROMIUM'] ?? '/usr/bin/chromium'
export const hasChromium = existsSync(PROGRAM)
if (!hasChromium) console.warn(`no Chromium at ${PROGRAM}: the pages are not tried in a browser; install chromium, or set CHROMIUM`)

/** Adds up what moves without the user. In the words of the browser, whose types the tests do not have. */
const WATCH_LAYOUT = `
  window.layout = { shift: 0 }
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.layout.shift += entry.value
  }).observe({ type: 'layout-shift', buffered: true })
`
const PATIENCE_MS = 10_000
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

let browser: Promise<Browser> | undefined

export function startBrowser(): Promise<Browser> {
  browser ??= chromium.launch({ executablePath: PROGRAM, args: ['--no-sandbox', '--disable-dev-shm-usage'] })
  return browser
}

export async function endBrowser(): Promise<void> {
  await (await browser)?.close()
  browser = undefined
}

/** A page of a test, closed when the test has finished. @param quiet whether the test fails where the page tells its console an error */
export async function openPage({ width = 1280, dark = false, quiet = true }: { width?: number; dark?: boolean; quiet?: boolean } = {}): Promise<Page> {
  const context = await (await startBrowser()).newContext({
    viewport: { width, height: 900 },
    colorScheme: dark ? 'dark' : 'light',
    reducedMotion: 'reduce',
  })
  const page = await context.newPage()
  page.setDefaultTimeout(PATIENCE_MS)
  const errors: string[] = []
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') errors.push(message.text())
  })
  page.on('pageerror', (error) => errors.push(String(error.stack ?? error)))
  await page.addInitScript(WATCH_LAYOUT)
  onTestFinished(async () => {
    await context.close()
    if (quiet) expect(errors).toEqual([])
  })
  return page
}

/** Resolves when the page runs, and its first figures have come. */
export async function isLive(page: Page): Promise<void> {
  await page.locator('html[data-live]').waitFor({ state: 'attached' })
}

interface Violation {
  readonly id: string
  readonly impact: string
  readonly nodes: readonly { readonly html: string; readonly failureSummary?: string }[]
}

/** What axe finds of serious faults, as "rule: element". */
export async function seriousFaults(page: Page): Promise<string[]> {
  // By the debugger, which no policy of a page concerns.
  await page.evaluate(AXE)
  const violations = await page.evaluate<Violation[]>('axe.run().then(({ violations }) => violations)')
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html.slice(0, 200)} ${failureSummary ?? ''}`))
}

export function overflows(page: Page): Promise<boolean> {
  return page.evaluate<boolean>('document.documentElement.scrollWidth > window.innerWidth')
}

/** How much of the page has moved by itself: what browsers call the layout shift. */
export function layoutShift(page: Page): Promise<number> {
  return page.evaluate<number>('window.layout.shift')
}

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { WORKER_ENVIRONMENT, workerFlags } from '../../src/cli/worker-config.js'
import { ERRORS, parseRules, readRules, type TollgateOptions, type WorkerOptions } from '../../src/index.js'
import { NAMED_ALGORITHMS } from '../../src/limits/algorithms.js'
import type { LimitSpec } from '../../src/limits/limit.js'
import { COST_UNITS, UNITS } from '../../src/model/cost.js'
import { DEFAULTS } from '../../src/model/defaults.js'
import { MAX_PRICE, type Price } from '../../src/pricing/prices.js'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const read = (file: string) => readFileSync(join(ROOT, file), 'utf8')

const PAGES = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', ...readdirSync(join(ROOT, 'docs'), { recursive: true }).map((file) => `docs/${file}`)].filter(
  (file) => file.endsWith('.md'),
)
const CLI = ['main', 'common', 'rules', 'overrides'].map((name) => `src/cli/${name}.ts`)
const README = read('README.md')
const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }

/** Every match's first group, once each, in order. */
function all(text: string, pattern: RegExp): string[] {
  return [...new Set([...text.matchAll(pattern)].map(([, found]) => found as string))].sort()
}

/** The part of a page below a heading, to the next of the same or a higher level. */
function section(text: string, heading: string): string {
  const [, level = ''] = new RegExp(`^(#+) ${heading}$`, 'm').exec(text) ?? []
  expect(level, `a heading ${heading}`).not.toBe('')
  const [, after = ''] = text.split(new RegExp(`^${level} ${heading}$`, 'm'))
  return after.split(new RegExp(`^#{1,${level.length}} `, 'm'))[0] as string
}

/** The names in the first column of the tables of a text, with the cells beside them. */
function rows(text: string): Map<string, string[]> {
  const found = [...text.matchAll(/^\| `([^`]+)` +\|(.*)\|$/gm)]
  return new Map(found.map(([, name, cells]) => [name as string, (cells as string).split('|').map((cell) => cell.trim())]))
}

/** The tables before and after a sentence. */
function halves(text: string, border: string): [string, string] {
  const [before, after] = text.split(border)
  return [before ?? '', after ?? expect.fail(`no "${border}"`)]
}

function links(page: string): { text: string; target: string }[] {
  const found = read(page).matchAll(/\[([^\]\n]*)\]\(([^)\s]+)\)/g)
  return [...found].map(([, text, target]) => ({ text: text as string, target: target as string })).filter(({ target }) => !/^[a-z]+:/.test(target))
}

test('every relative link of the documentation points to a file that exists', () => {
  const broken = PAGES.flatMap((page) =>
    links(page)
      .filter(({ target }) => !existsSync(join(ROOT, dirname(page), target.split('#')[0] as string)))
      .map(({ target }) => `${page}: ${target}`),
  )
  expect(PAGES.length).toBeGreaterThan(10)
  expect(broken).toEqual([])
})

test('every test that the documentation names is there, under that name', () => {
  const named = PAGES.flatMap((page) => links(page).map((link) => ({ page, ...link }))).filter(
    ({ text, target }) => target.endsWith('.test.ts') && !text.endsWith('.test.ts'),
  )
  expect(named.length).toBeGreaterThan(10)
  for (const { page, text, target } of named) expect(read(join(dirname(page), target)), `${page}: ${text}`).toContain(text)
})

test('every decision is listed, and none is longer than a page', () => {
  const decisions = readdirSync(join(ROOT, 'docs/decisions')).filter((file) => /^\d{4}-/.test(file))
  const index = links('docs/decisions/README.md').map(({ target }) => target)
  expect(index).toEqual(decisions.sort())
  for (const file of decisions) expect(read(`docs/decisions/${file}`).trimEnd().split('\n').length, file).toBeLessThanOrEqual(40)
})

test('every npm script that is named exists, and every script is named', () => {
  const named = all(PAGES.map(read).join('\n'), /`npm (?:run )?(build|test|[a-z:-]+)(?=[` ])/g).filter((name) => !['ci', 'install', 'pack'].includes(name))
  expect(named).toEqual(Object.keys(scripts).sort())
})

test("the worker's flags, environment and settings are in the README as they are, and no others", () => {
  const table = [...section(README, 'Worker process').matchAll(/^\| `(--[^`]+)` +\| `([A-Z_]+)` +\|([^|]*)\|/gm)]
  const flags = workerFlags(new Command()).options
  expect(table.map(([, flag]) => flag).sort()).toEqual(flags.map(({ flags: flag }) => flag).sort())
  const settings = Object.fromEntries(table.map(([, , variable, setting]) => [setting?.trim().replaceAll('`', ''), variable]))
  expect(settings).toEqual({ ...WORKER_ENVIRONMENT, '': 'TOLLGATE_CONFIG' })
  for (const { long, description } of flags) {
    expect(description, `help of ${long}`).toContain(table.find(([, flag]) => flag?.startsWith(`${long} `))?.[2])
  }
})

test('no flag and no environment variable is in the README that the program does not know', () => {
  const sources = [...CLI, 'src/cli/worker-config.ts', 'examples/demo/arguments.ts', 'bench/lib/arguments.ts'].map(read).join('\n')
  const known = all(sources, /(--[a-z][a-z-]*)/g)
  for (const flag of all(README, /(?<![\w-])(--[a-z][a-z-]*)/g)) expect(known).toContain(flag)
  const variables = new Set<string>([...Object.values(WORKER_ENVIRONMENT), 'TOLLGATE_CONFIG'])
  for (const variable of all(README, /`((?:TOLLGATE|REDIS)_[A-Z_]+)`/g)) if (!Object.hasOwn(ERRORS, variable)) expect([...variables]).toContain(variable)
})

test('every command of the command line is in the README, and no other', () => {
  const defined = CLI.flatMap((file) => [...read(file).matchAll(/\b(\w+)\s*\.command\('([a-z]+[^']*)'\)/g)])
  const groups = ['rules', 'override']
  const expected = defined
    .filter(([, , command]) => !groups.includes(command as string))
    .map(([, parent, command]) => (parent === 'program' ? `tollgate ${command}` : `tollgate ${parent} ${command}`))
  expect(expected.length).toBeGreaterThan(10)
  expect([...rows(section(README, 'Command line')).keys()].filter((one) => one.startsWith('tollgate')).sort()).toEqual(expected.sort())
})

test('every option is in the README with its default, and no other', () => {
  // The compiler sees to it that these are all.
  const ofOpen = {
    redis: '`REDIS_URL`, else memory',
    namespace: `\`${DEFAULTS.namespace}\``,
    queue: `\`${DEFAULTS.queue}\``,
    store: '',
    rules: '',
    prices: '',
    exempt: '',
    degradeTo: '',
    strategies: '',
    estimate: '',
    attempts: '1',
    connectTimeoutMs: '10000',
    actor: '`unknown`',
    longestOverrideMs: '604800000',
    auditRetentionMs: '',
    upstream: '',
    bus: '`redis`',
    onStoreError: '`closed`',
    storeTimeoutMs: String(DEFAULTS.storeTimeoutMs),
    maxUnchecked: String(DEFAULTS.maxUnchecked),
    enqueueTimeoutMs: String(DEFAULTS.enqueueTimeoutMs),
    logger: '',
    clock: '',
  } satisfies Record<keyof Required<TollgateOptions>, string>
  const ofWorker = {
    concurrency: String(DEFAULTS.concurrency),
    timeoutMs: String(DEFAULTS.timeoutMs),
    leaseMs: String(DEFAULTS.leaseMs),
    observer: 'none',
    fallback: 'none',
    callOf: '',
  } satisfies Record<keyof Required<WorkerOptions>, string>
  const [open, worker] = halves(section(README, 'Options'), 'Of `tollgate.worker(handler, options)`:').map(rows)
  for (const [table, options] of [
    [open, ofOpen],
    [worker, ofWorker],
  ] as const) {
    expect([...(table?.keys() ?? [])]).toEqual(Object.keys(options))
    for (const [option, value] of Object.entries(options)) expect(table?.get(option)?.[0], option).toMatch(value === '' ? /./ : new RegExp(`^${value}`))
  }
})

test('the rules files of the documentation and the examples are valid', async () => {
  const blocks = all(README, /```yaml\n([\s\S]*?)```/g)
  expect(blocks).toHaveLength(2)
  for (const block of blocks) expect(parseRules(block, 'README.md').rules.length).toBeGreaterThan(0)
  expect((await readRules(join(ROOT, 'examples/tollgate.yaml'))).agents).toHaveProperty('openai')
})

test('every unit of cost and every field of a price is in the README, and no other', () => {
  expect([...rows(section(README, 'Costs and settlement')).keys()]).toEqual(COST_UNITS)
  const fields = { input: 1, cachedInput: 1, cacheWrite: 1, output: 1 } satisfies Record<keyof Required<Price>, number>
  expect([...rows(section(README, 'Prices')).keys()]).toEqual(Object.keys(fields))
  expect(section(README, 'Prices')).toContain(`from 0 to ${MAX_PRICE.toLocaleString('en-US')}`)
  const { prices } = parseRules(all(README, /```yaml\n([\s\S]*?)```/g).find((block) => block.includes('prices:')) ?? '', 'README.md')
  expect(Object.keys(prices)).toEqual(['gpt-4o', 'claude-*', '*'])
})

test('every field of a limit, every unit and every algorithm is in the README, and no other', () => {
  const [fields, algorithms] = halves(section(README, 'Rules file'), '| algorithm')
  const table = fields.slice(fields.indexOf('Of a limit:'))
  const named = [...table.matchAll(/^\| (`[^|]+?) +\|/gm)].flatMap(([, cell]) => all(cell as string, /`([^`]+)`/g))
  const known = { per: 1, algorithm: 1, burst: 1, burstMultiplier: 1, timezone: 1, lease: 1, name: 1 } satisfies Partial<Record<keyof LimitSpec, 1>>
  expect(named.sort()).toEqual([...UNITS, ...Object.keys(known)].sort())
  expect([...rows(algorithms.split('\n\n')[0] as string).keys()]).toEqual([...NAMED_ALGORITHMS])
})

test('docker-compose.yml is YAML, and gives the worker settings that it knows', () => {
  const { services } = parse(read('docker-compose.yml')) as {
    services: { redis: { command: string[] }; worker: { environment: Record<string, string> } }
  }
  expect(Object.keys(services)).toEqual(['redis', 'worker'])
  expect(services.redis.command).toEqual(['redis-server', '--appendonly', 'yes', '--maxmemory-policy', 'noeviction'])
  const settings = Object.keys(services.worker.environment).filter((name) => name !== 'OPENAI_API_KEY')
  for (const name of settings) expect(Object.values(WORKER_ENVIRONMENT)).toContain(name)
})

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { SERVER_ENVIRONMENT, serverConfig, serverFlags } from '../../src/cli/server-config.js'
import { WORKER_ENVIRONMENT, workerFlags } from '../../src/cli/worker-config.js'
import {
  type AgentSpec,
  type Call,
  type CallContext,
  ERRORS,
  type Exempt,
  type MatchSpec,
  MemoryStore,
  parseRules,
  type RuleSpec,
  readRules,
  type Ticket,
  Tollgate,
  type TollgateOptions,
  type UpstreamOptions,
  type WorkerOptions,
} from '../../src/index.js'
import { NAMED_ALGORITHMS } from '../../src/limits/algorithms.js'
import type { LimitSpec } from '../../src/limits/limit.js'
import { STRATEGIES } from '../../src/model/call.js'
import { COST_UNITS, UNITS } from '../../src/model/cost.js'
import { DEFAULTS } from '../../src/model/defaults.js'
import { HEALTH_REASONS } from '../../src/model/health-reason.js'
import { WAIT_REASONS } from '../../src/model/wait-reason.js'
import { checkOptions, checkWorker } from '../../src/options.js'
import { ON_STORE_ERROR, SCOPES } from '../../src/policy/rule.js'
import { MAX_PRICE, type Price } from '../../src/pricing/prices.js'
import { REFUSED_WORDS } from '../support/refused-words.js'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const read = (file: string) => readFileSync(join(ROOT, file), 'utf8')

const PAGES = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', ...readdirSync(join(ROOT, 'docs'), { recursive: true }).map((file) => `docs/${file}`)].filter(
  (file) => file.endsWith('.md'),
)
const CLI = ['program', 'flags', 'calls', 'common', 'rules', 'overrides', 'keys', 'waiting', 'meters', 'health', 'history'].map((name) => `src/cli/${name}.ts`)
const README = read('README.md')
const RULES = read('docs/rules.md')
const CALLS = read('docs/calls.md')
const LIMITER = read('docs/limiter.md')
const OPERATIONS = read('docs/operations.md')
const OPTIONS = read('docs/options.md')
/** Those that describe the program to its users. */
const REFERENCE = [
  'README.md',
  ...['rules', 'calls', 'limiter', 'operations', 'upstream', 'administration', 'options', 'server', 'middleware', 'telemetry', 'health', 'alerts'].map(
    (name) => `docs/${name}.md`,
  ),
  ...readdirSync(join(ROOT, 'docs/guides')).map((file) => `docs/guides/${file}`),
]
const USER_PAGES = REFERENCE.map(read).join('\n')
const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }

/** Every match's first group, once each, in order. */
function all(text: string, pattern: RegExp): string[] {
  return [...new Set([...text.matchAll(pattern)].map(([, found]) => found as string))].sort()
}

/** The part of a page below a heading, to the next of the same or a higher level. */
function section(text: string, heading: string): string {
  const escaped = heading.replace(/[.()]/g, '\\$&')
  const [, level = ''] = new RegExp(`^(#+) ${escaped}$`, 'm').exec(text) ?? []
  expect(level, `a heading ${heading}`).not.toBe('')
  const [, after = ''] = text.split(new RegExp(`^${level} ${escaped}$`, 'm'))
  return after.split(new RegExp(`^#{1,${level.length}} `, 'm'))[0] as string
}

/** The names in the first column of the tables of a text, with the cells beside them. */
function rows(text: string): Map<string, string[]> {
  const found = [...text.matchAll(/^\| `([^`]+)` \|(.*)\|$/gm)]
  return new Map(found.map(([, name, cells]) => [name as string, (cells as string).split('|').map((cell) => cell.trim())]))
}

/** The lines of a page that are not in a block of code. */
function prose(text: string): string[] {
  return text.replace(/^```[\s\S]*?^```$/gm, '').split('\n')
}

/** The cells of the tables of a page, as they are written. */
function cells(text: string): string[] {
  return prose(text)
    .filter((line) => line.startsWith('|'))
    .flatMap((line) => line.split(/(?<!\\)\|/).slice(1, -1))
}

/** Blocks of code, with their language. */
function blocks(text: string): { language: string; code: string }[] {
  return [...text.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)].map(([, language, code]) => ({ language: language as string, code: code as string }))
}

/** The anchor of a heading, as GitHub makes it. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-')
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

test('every anchor of a link is a heading of its page', () => {
  const anchors = new Map(PAGES.map((page) => [page, prose(read(page)).flatMap((line) => all(line, /^#+ (.*)$/g).map(anchorOf))]))
  const broken = PAGES.flatMap((page) =>
    links(page).flatMap(({ target }) => {
      const [file = '', anchor] = target.split('#')
      const of = file === '' ? page : join(dirname(page), file)
      return anchor === undefined || anchors.get(of)?.includes(anchor) === true ? [] : [`${page}: ${target}`]
    }),
  )
  expect(broken).toEqual([])
})

test('the README is short', () => {
  expect(README.trimEnd().split('\n').length).toBeLessThanOrEqual(150)
  expect(Buffer.byteLength(README)).toBeLessThanOrEqual(7000)
})

test('no table is padded', () => {
  for (const page of PAGES)
    expect(
      cells(read(page)).filter((cell) => /^ {2}| {2}$|^\S|\S$|-{4}/.test(cell)),
      page,
    ).toEqual([])
})

test('no cell of a table for users is longer than 100 characters', () => {
  for (const page of REFERENCE)
    expect(
      cells(read(page)).filter((cell) => cell.trim().length > 100),
      page,
    ).toEqual([])
})

test('sentences name their subjects', () => {
  for (const page of PAGES) {
    // A test that a page names has words of its own.
    const text = read(page).replace(/\[[^\]\n]*\]\([^)\s]+\.test\.ts\)/g, '')
    expect(text.match(REFUSED_WORDS), page).toBeNull()
  }
})

test('every block of TypeScript is an example that compiles and runs, word for word, and every example is shown', () => {
  const shown = REFERENCE.flatMap((page) => {
    const found = blocks(read(page))
    expect(
      found.filter(({ language }) => !['ts', 'yaml', 'text'].includes(language)),
      page,
    ).toEqual([])
    return found
      .filter(({ language }) => language === 'ts')
      .map(({ code }) => {
        const [, file = '', quoted] = /^\/\/ (examples\/docs\/\S+\.ts)\n([\s\S]*)$/.exec(code) ?? []
        expect(file, `${page}: the file of\n${code}`).not.toBe('')
        expect(quoted, `${page}: ${file}`).toBe(read(file).replace("'../../src/index.js'", "'tollgate'"))
        return file
      })
  })
  expect(shown.length).toBeGreaterThanOrEqual(10)
  expect(shown.sort()).toEqual(
    readdirSync(join(ROOT, 'examples/docs'))
      .map((file) => `examples/docs/${file}`)
      .sort(),
  )
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

test("the worker's flags, environment and settings are in docs/operations.md as they are, and no others", () => {
  const table = [...section(OPERATIONS, 'Worker process').matchAll(/^\| `(--[^`]+)` \| `([A-Z_]+)` \|([^|]*)\|/gm)]
  const flags = workerFlags(new Command()).options
  expect(table.map(([, flag]) => flag).sort()).toEqual(flags.map(({ flags: flag }) => flag).sort())
  const settings = Object.fromEntries(table.map(([, , variable, setting]) => [setting?.trim().replaceAll('`', ''), variable]))
  expect(settings).toEqual({ ...WORKER_ENVIRONMENT, '': 'TOLLGATE_CONFIG' })
  for (const { long, description } of flags) {
    expect(description, `help of ${long}`).toContain(table.find(([, flag]) => flag === long || flag?.startsWith(`${long} `))?.[2])
  }
})

test("the server's settings, their environment, defaults and flags are in docs/server.md as they are, and no others", async () => {
  const page = section(read('docs/server.md'), 'Settings')
  const table = rows(page)
  expect(Object.fromEntries([...table].map(([name, [variable]]) => [name, variable?.replaceAll('`', '')]))).toEqual(SERVER_ENVIRONMENT)
  const defaults = (await serverConfig({}, {})) as Readonly<Record<string, unknown>>
  for (const [name, [, shown = '']] of table) {
    const value = defaults[name]
    if (typeof value === 'number' || typeof value === 'string') expect(shown.replaceAll('`', ''), name).toBe(String(value))
  }
  const flags = serverFlags(new Command()).options.map(({ long }) => long)
  expect(all(page, /`(--[a-z-]+)`/g)).toEqual([...flags].sort())
})

test('every address of the server is in docs/server.md', () => {
  const page = read('docs/server.md')
  for (const file of readdirSync(join(ROOT, 'src/http/routes'))) {
    const paths = all(read(`src/http/routes/${file}`), /path: ['`](\/[^'`$]+)/g)
    for (const path of paths) expect(page, path).toContain(path.replace(/^(\/v1\/(?:rules|overrides|pauses|capacity|keys)).*/, '$1').replace(/\/$/, ''))
  }
})

test('no flag and no environment variable is in the pages for users that the program does not know', () => {
  const sources = [...CLI, 'src/cli/worker-config.ts', 'src/cli/server-config.ts', 'examples/demo/arguments.ts', 'bench/lib/arguments.ts'].map(read).join('\n')
  const known = all(sources, /(--[a-z][a-z-]*)/g)
  for (const flag of all(USER_PAGES, /(?<![\w-])(--[a-z][a-z-]*)/g)) expect(known).toContain(flag)
  const variables = new Set<string>([...Object.values(WORKER_ENVIRONMENT), ...Object.values(SERVER_ENVIRONMENT), 'TOLLGATE_CONFIG'])
  for (const variable of all(USER_PAGES, /`((?:TOLLGATE|REDIS)_[A-Z_]+)`/g))
    if (!Object.hasOwn({ ...ERRORS, ...HEALTH_REASONS }, variable)) expect([...variables]).toContain(variable)
  const limiter = read('src/limiter/spec.ts')
  expect(all(USER_PAGES, /`(TOKEN_[A-Z_]+)`/g)).toEqual(all(limiter, /'(TOKEN_[A-Z_]+)'/g))
})

test('every error code in the pages for users is one of the catalogue', () => {
  const codes = all(USER_PAGES, /`([A-Z]+(?:_[A-Z]+)+)`/g).filter((code) => !/^(TOLLGATE|TOKEN|LOG)_|_URL$|_SECRET$|^TIMESTAMP|^NO_COLOR$/.test(code))
  expect(codes.length).toBeGreaterThan(10)
  for (const code of codes) expect([...Object.keys(ERRORS), ...Object.keys(WAIT_REASONS), ...Object.keys(HEALTH_REASONS)]).toContain(code)
})

test('every command of the command line is in docs/operations.md, and no other', () => {
  const defined = CLI.flatMap((file) => [...read(file).matchAll(/\b(\w+)\s*\.command\('([a-z]+[^']*)'\)/g)])
  const groups = ['rules', 'override', 'keys', 'calls', 'meters', 'capacity', 'history']
  const expected = defined
    .filter(([, , command]) => !groups.includes(command as string))
    .map(([, parent, command]) => (parent === 'program' ? `tollgate ${command}` : `tollgate ${parent} ${command}`))
  expect(expected.length).toBeGreaterThan(10)
  expect([...rows(section(OPERATIONS, 'Command line')).keys()].filter((one) => one.startsWith('tollgate')).sort()).toEqual(expected.sort())
})

test('every option is in docs/options.md with its default, and no other', () => {
  // The compiler sees to it that these are all.
  const ofOpen = {
    redis: '`REDIS_URL`, else memory',
    namespace: `\`${DEFAULTS.namespace}\``,
    prefix: '',
    queue: `\`${DEFAULTS.queue}\``,
    store: '',
    rules: '',
    requireRules: '`false`',
    requireRedis: '`false`',
    prices: '',
    exempt: '',
    degradeTo: '',
    endpoints: '',
    strategies: '',
    algorithms: '',
    estimate: '',
    believedUsage: '',
    attempts: '1',
    maxPayloadBytes: String(DEFAULTS.maxPayloadBytes),
    connectTimeoutMs: String(DEFAULTS.connectTimeoutMs),
    actor: '`unknown`',
    longestOverrideMs: String(DEFAULTS.longestOverrideMs),
    auditRetentionMs: `what was set, else ${DEFAULTS.auditRetentionMs}`,
    upstream: '',
    bus: '`redis`',
    onStoreError: '`local`',
    processes: '1',
    storeTimeoutMs: String(DEFAULTS.storeTimeoutMs),
    replicas: '0',
    maxUnchecked: String(DEFAULTS.maxUnchecked),
    enqueueTimeoutMs: String(DEFAULTS.enqueueTimeoutMs),
    telemetry: '',
    decideOnSums: '`true`',
    logger: '',
    webhookHosts: '',
    clock: '',
  } satisfies Record<keyof Required<TollgateOptions>, string>
  const ofWorker = {
    concurrency: String(DEFAULTS.concurrency),
    timeoutMs: String(DEFAULTS.timeoutMs),
    leaseMs: String(DEFAULTS.leaseMs),
    maxResultBytes: String(DEFAULTS.maxResultBytes),
    maxReturns: String(DEFAULTS.maxReturns),
    observer: 'none',
    fallback: 'none',
    callOf: '',
    finishInBatches: '`true`',
    requireRules: '`false`',
  } satisfies Record<keyof Required<WorkerOptions>, string>
  const { reduceFactor, recoverFactor, recoverEveryMs, canary, canaryLeaseMs } = DEFAULTS.upstream
  const ofUpstream = {
    reduceFactor: String(reduceFactor),
    recoverFactor: String(recoverFactor),
    recoverEveryMs: String(recoverEveryMs),
    canary: `\`${canary}\``,
    canaryLeaseMs: String(canaryLeaseMs),
  } satisfies Record<keyof Required<UpstreamOptions>, string>
  for (const [heading, options] of [
    ['Tollgate.open', ofOpen],
    ['tollgate.worker(handler, options)', ofWorker],
    ['upstream', ofUpstream],
  ] as const) {
    const table = rows(section(OPTIONS, heading))
    expect([...table.keys()]).toEqual(Object.keys(options))
    for (const [option, value] of Object.entries(options)) expect(table.get(option)?.[0], option).toMatch(value === '' ? /./ : new RegExp(`^${value}`))
  }
})

test('the bounds of options in docs/options.md are those that are checked', () => {
  const check = {
    'Tollgate.open': (option: string, value: number) => checkOptions({ [option]: value }),
    'tollgate.worker(handler, options)': (option: string, value: number) => checkWorker(() => {}, { [option]: value }),
    upstream: (option: string, value: number) => checkOptions({ upstream: { [option]: value } }),
  }
  let bounds = 0
  for (const [heading, give] of Object.entries(check)) {
    for (const [option, [, bound = '']] of rows(section(OPTIONS, heading))) {
      const [, least, most] = /^(\d+(?:\.\d+)?) to (\d+(?:\.\d+)?)$/.exec(bound)?.map(Number) ?? []
      if (least === undefined || most === undefined) continue
      bounds++
      const step = Number.isInteger(least) ? 1 : 0.001
      for (const value of [least, most]) expect(() => give(option, value), `${option} ${value}`).not.toThrow()
      for (const value of [least - step, most + step]) expect(() => give(option, value), `${option} ${value}`).toThrow(option)
    }
  }
  expect(bounds).toBe(19)
  expect(section(OPTIONS, 'Tollgate.open')).toContain(
    `| \`onStoreError\` | \`local\` | \`${ON_STORE_ERROR.slice(0, -1).join('`, `')}\` or \`${ON_STORE_ERROR.at(-1)}\` |`,
  )
})

test('the rules files of the documentation and the examples are valid', async () => {
  const files = REFERENCE.flatMap((page) => blocks(read(page)).filter(({ language }) => language === 'yaml'))
  expect(files.length).toBeGreaterThanOrEqual(2)
  for (const { code } of files) expect(parseRules(code, 'docs/rules.md').rules.length).toBeGreaterThan(0)
  expect((await readRules(join(ROOT, 'examples/tollgate.yaml'))).agents).toHaveProperty('openai')
})

test('every unit of cost and every field of a price is documented, and no other', () => {
  expect([...rows(section(CALLS, 'Costs and settlement')).keys()]).toEqual(COST_UNITS)
  const fields = { input: 1, cachedInput: 1, cacheWrite: 1, output: 1 } satisfies Record<keyof Required<Price>, number>
  expect([...rows(section(RULES, 'Prices')).keys()]).toEqual(Object.keys(fields))
  expect(section(RULES, 'Prices')).toContain(`from 0 to ${MAX_PRICE.toLocaleString('en-US')}`)
  const { prices } = parseRules(blocks(RULES).find(({ code }) => code.includes('prices:'))?.code ?? '', 'docs/rules.md')
  expect(Object.keys(prices)).toEqual(['gpt-4o', 'claude-*', '*'])
})

test('every field of a limit, every unit and every algorithm is in docs/rules.md, and no other', () => {
  const named = [...section(RULES, 'Limits').matchAll(/^\| (`[^|]+?) \|/gm)].flatMap(([, cell]) => all(cell as string, /`([^`]+)`/g))
  const known = { per: 1, algorithm: 1, burst: 1, burstMultiplier: 1, timezone: 1, startsOn: 1, day: 1, hour: 1, lease: 1, name: 1 } satisfies Partial<
    Record<keyof LimitSpec, 1>
  >
  expect(named.sort()).toEqual([...UNITS, ...Object.keys(known)].sort())
  const algorithms = section(RULES, 'Algorithms').split(/^### /m)[0] as string
  expect([...rows(algorithms).keys()]).toEqual([...NAMED_ALGORITHMS])
  expect(all(algorithms, /^- `(\w+)`/gm)).toEqual([...NAMED_ALGORITHMS].sort())
})

test('every field of a rule, of its match, of an agent and of exempt is in docs/rules.md, and no other', () => {
  const ofRule = {
    name: 'required',
    scope: 'required',
    ipv6Prefix: String(DEFAULTS.ipv6Prefix),
    requires: 'none',
    match: 'all calls',
    strategy: '`queue`',
    priority: '0',
    enabled: '`true`',
    maxWaitMs: 'none',
    maxWaiting: 'none',
    holdMs: String(DEFAULTS.throttleHoldMs),
    maxDelayMs: 'none',
    degraded: 'none',
    onStoreError: 'option',
    limits: 'required',
  } satisfies Record<keyof Required<RuleSpec>, string>
  const fields = section(RULES, 'Fields of a rule').split(/^### /m)[0] as string
  expect([...rows(fields)].map(([field, [value]]) => [field, value])).toEqual(Object.entries(ofRule))
  const scope = section(RULES, 'Scope and match')
  for (const one of SCOPES) expect(scope).toContain(`\`${one}\``)
  const match = { agents: 1, endpoints: 1, models: 1, users: 1, teams: 1, orgs: 1, ips: 1, keys: 1 } satisfies Record<keyof Required<MatchSpec>, 1>
  expect([...rows(scope).keys()]).toEqual(Object.keys(match))
  const agent = { baseUrl: 1, api: 1, apiKeyEnv: 1, degradeTo: 1, patienceMs: 1 } satisfies Record<keyof Required<AgentSpec>, 1>
  expect([...rows(section(RULES, 'Agents')).keys()]).toEqual(Object.keys(agent))
  const exempt = { users: 1, teams: 1, orgs: 1, agents: 1, ips: 1 } satisfies Record<keyof Required<Exempt>, 1>
  for (const list of Object.keys(exempt)) expect(section(RULES, 'Exempt')).toContain(`\`${list}\``)
})

test('every field of a call and of a context, every outcome and every strategy is in docs/calls.md, and no other', () => {
  const ofCall = {
    agent: 1,
    id: 1,
    endpoint: 1,
    model: 1,
    user: 1,
    team: 1,
    org: 1,
    ip: 1,
    keys: 1,
    cost: 1,
    priority: 1,
    strategy: 1,
    deadline: 1,
    maxWaitMs: 1,
    maxReturns: 1,
    deduplicationKey: 1,
    degraded: 1,
    payload: 1,
  } satisfies Record<keyof Required<Call>, 1>
  const named = [...section(CALLS, 'Fields of a call').matchAll(/^\| (`[^|]+?) \|/gm)].flatMap(([, cell]) => (cell as string).replaceAll('`', '').split(', '))
  expect(named).toEqual(Object.keys(ofCall))
  const ofContext = {
    id: 1,
    job: 1,
    signal: 1,
    attempt: 1,
    decision: 1,
    degraded: 1,
    degradeTo: 1,
    settlePart: 1,
    observe: 1,
    traceHeaders: 1,
  } satisfies Record<keyof CallContext, 1>
  expect([...rows(section(CALLS, 'Handlers')).keys()].map((name) => name.split('(')[0])).toEqual(Object.keys(ofContext))
  const outcomes = { run: 1, degrade: 1, wait: 1, reject: 1, expired: 1 } satisfies Record<NonNullable<Ticket['decision']>['outcome'], 1>
  expect([...rows(section(CALLS, 'Decisions')).keys()]).toEqual(Object.keys(outcomes))
  expect([...rows(section(CALLS, 'Strategies')).keys()]).toEqual([...STRATEGIES, 'custom:<name>'])
  expect([...rows(section(OPERATIONS, 'When Redis is away')).keys()]).toEqual([...ON_STORE_ERROR])
})

test('every method of the gate and of limiters in docs/limiter.md is there', async () => {
  const tollgate = await Tollgate.open({ store: new MemoryStore() })
  for (const [heading, subject, count] of [
    ['The gate without the queue', tollgate.gate, 7],
    ['A limiter by key', tollgate.limiter({ requests: 1, per: 'second' }), 5],
  ] as const) {
    const methods = [...rows(section(LIMITER, heading)).keys()].map((name) => name.split('(')[0] as string)
    expect(methods).toHaveLength(count)
    for (const method of methods) expect((subject as unknown as Record<string, unknown>)[method], method).toBeTypeOf('function')
  }
  await tollgate.close()
})

test('every benchmark is named in docs/operations.md, and no other', () => {
  const [, list = ''] = /among (.*?)\.$/m.exec(section(OPERATIONS, 'Benchmarks')) ?? []
  const [, benches = ''] = /const BENCHES = \{([\s\S]*?)^\}/m.exec(read('bench/main.ts')) ?? []
  expect(all(list, /`([a-z-]+)`/g)).toEqual(all(benches, /^ {2}'?([a-z-]+)'?[:,]/gm))
})

test('docker-compose.yml is YAML, and gives the worker settings that it knows', () => {
  const { services } = parse(read('docker-compose.yml'), { merge: true }) as {
    services: { redis: { command: string[] }; worker: { environment: Record<string, string> } }
  }
  expect(Object.keys(services)).toEqual(['redis', 'server', 'worker', 'prometheus', 'grafana'])
  expect(services.redis.command.slice(0, 5)).toEqual(['redis-server', '--appendonly', 'yes', '--maxmemory-policy', 'noeviction'])
  const settings = Object.keys(services.worker.environment).filter((name) => name !== 'OPENAI_API_KEY')
  for (const name of settings) expect(Object.values(WORKER_ENVIRONMENT)).toContain(name)
})

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, expect, onTestFinished, test } from 'vitest'
import { type ClientLibraries, clientLibraries } from '../support/client-libraries.js'
import { newNamespace } from '../support/namespace.js'
import { startSampleAgent } from '../support/sample-agent.js'
import { ServerProcess } from '../support/server-process.js'
import { until } from '../support/until.js'

interface Outcome {
  readonly node: string
  readonly wide: readonly { readonly text: string }[]
  readonly narrow: readonly { readonly text: string }[]
  readonly error: { readonly name: string; readonly status: number; readonly message: string }
  readonly sent: readonly {
    readonly agent: string
    readonly status: number
    readonly at: number
    readonly retryAfterMs: string | null
    readonly again: string | null
  }[]
  readonly tokens: Readonly<Record<'wide' | 'narrow' | 'brief' | 'daily', number>>
}

const BUDGET = '{ tokens: 1000000, per: day, algorithm: fixed_window }'
/** What is limited at the agent of each name, beside its budget. */
const RULES = {
  wide: '',
  narrow: 'limits: [{ concurrency: 1 }]',
  brief: 'strategy: retry_after, limits: [{ requests: 1, per: second, burst: 1 }]',
  daily: 'strategy: retry_after, limits: [{ requests: 1, per: day, algorithm: fixed_window }]',
} as const

let libraries: ClientLibraries
beforeAll(async () => {
  libraries = await clientLibraries()
}, 300_000)

async function rulesFile(family: 'openai' | 'anthropic', url: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'tollgate-test-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  const names = Object.entries(RULES).map(([name, limits]) => [`${family}-${name}`, limits])
  const rules = names
    .filter(([, limits]) => limits !== '')
    .map(([name, limits]) => `  - { name: ${name}, scope: agent, match: { agents: [${name}] }, ${limits} }`)
  const agents = names.map(([name]) => `  ${name}: { baseUrl: '${url}', api: ${family} }`)
  const file = join(folder, 'rules.yaml')
  await writeFile(file, ['rules:', `  - { name: budget, scope: agent, limits: [${BUDGET}] }`, ...rules, 'agents:', ...agents, ''].join('\n'))
  return file
}

test.each([
  [20, 'openai6', 'RateLimitError'],
  [20, 'anthropic', 'RateLimitError'],
  [22, 'openai7', 'RateLimitError'],
  [22, 'anthropic', 'RateLimitError'],
  [24, 'openai7', 'RateLimitError'],
  [24, 'anthropic', 'RateLimitError'],
  [24, 'ai-openai', undefined],
  [24, 'ai-anthropic', undefined],
] as const)('client and server on Node %i, %s: whole and streamed, waiting instead of failing, settled to the token', async (version, library, errorName) => {
  const family = library.includes('anthropic') ? 'anthropic' : 'openai'
  const { url: agent } = await startSampleAgent({ latencyMs: 200 })
  const namespace = newNamespace()
  const flags = { rules: await rulesFile(family, agent), redis: namespace.url, namespace: namespace.name }
  const server = new ServerProcess(flags, {}, libraries.node(version))
  const outcome = await libraries.call<Outcome>(version, library, await server.serving())
  expect(outcome.node).toMatch(new RegExp(`^v${version}\\.`))
  for (const { text } of [...outcome.wide, ...outcome.narrow]) expect(text).not.toBe('')
  const of = (name: string) => outcome.sent.filter((one) => one.agent === `${family}-${name}`)
  expect(of('narrow').map(({ status }) => status)).toEqual([200, 200, 200])

  // Told to come again after less than a second, the client did, and not before.
  const [, refused, again] = of('brief')
  expect([refused?.status, refused?.again, again?.status]).toEqual([429, 'true', 200])
  expect((again?.at ?? 0) - (refused?.at ?? 0)).toBeGreaterThanOrEqual(Number(refused?.retryAfterMs))
  expect(outcome.error.status).toBe(429)
  expect(outcome.error.message).toContain(`rule ${family}-daily`)
  if (errorName !== undefined) {
    expect(outcome.error.name).toBe(errorName)
    // Told that waiting does not help, it did not try again.
    expect(of('daily').map(({ status, again: told }) => [status, told])).toEqual([
      [200, null],
      [429, 'false'],
    ])
  }

  const tollgate = await namespace.open()
  const used = async (name: string) => {
    const { usage } = await tollgate.gate.peek({ agent: `${family}-${name}`, cost: { requests: 0, tokens: 0 } })
    return usage.find(({ rule }) => rule === 'budget')?.used
  }
  for (const [name, tokens] of Object.entries(outcome.tokens)) await until(`${name} is settled to ${tokens}`, async () => (await used(name)) === tokens)
  expect(await server.end('SIGTERM')).toBe(0)
})

import { parseArgs } from 'node:util'

/** The limits and the behaviour of the agent. */
export interface AgentOptions {
  readonly host: string
  /** 0 = any free port. */
  readonly port: number
  readonly requestsPerSecond: number
  readonly requestBurst: number
  readonly tokensPerMinute: number
  readonly tokenBurst: number
  readonly latencyMs: number
  /** A call takes up to this much more or less than `latencyMs`. */
  readonly jitterMs: number
  /** max_tokens of a request that sets none. */
  readonly defaultMaxTokens: number
  /** The same seed gives the same answers. */
  readonly seed: number
}

const DEFAULTS: AgentOptions = {
  host: '127.0.0.1',
  port: 8080,
  requestsPerSecond: 20,
  requestBurst: 20,
  tokensPerMinute: 200_000,
  tokenBurst: 20_000,
  latencyMs: 500,
  jitterMs: 200,
  defaultMaxTokens: 512,
  seed: 1,
}

/** Flags are the options' names in kebab-case. */
function flagOf(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
}

/** @throws Error naming flag and value */
export function readAgentOptions(args: readonly string[]): AgentOptions {
  const names = Object.keys(DEFAULTS) as (keyof AgentOptions)[]
  const { values } = parseArgs({ args: [...args], options: Object.fromEntries(names.map((name) => [flagOf(name), { type: 'string' as const }])) })
  const given = names.flatMap((name): [keyof AgentOptions, string | number][] => {
    const text = values[flagOf(name)]
    if (text === undefined) return []
    if (name === 'host') return [[name, text]]
    const value = Number(text)
    if (text === '' || !Number.isFinite(value) || value < 0) throw new Error(`--${flagOf(name)} must be a number of 0 or more (got ${text})`)
    return [[name, value]]
  })
  return { ...DEFAULTS, ...Object.fromEntries(given) }
}

/** The options as flags. */
export function agentFlags(options: Partial<AgentOptions>): string[] {
  return Object.entries(options).map(([name, value]) => `--${flagOf(name)}=${value}`)
}

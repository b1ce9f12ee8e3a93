import { parseArgs } from 'node:util'

export interface BenchArguments<Name extends string> {
  /** In the order in which they run. */
  readonly names: readonly Name[]
  /** The file that gets the figures as JSON; - is the standard output. */
  readonly json: string | undefined
  /** A trace to replay instead of the one beside the project. */
  readonly trace: string | undefined
}

export const usage = (known: readonly string[]) => `usage: npm run bench [-- [--only NAME[,NAME…]] [--json FILE] [--trace FILE.csv]]
  --only NAME[,NAME…]  of ${known.join(', ')}; default: all of them
  --json FILE          write the figures to a file as JSON, or to the standard output where it is -
  --trace FILE.csv     what the upstream is sent (columns TIMESTAMP,ContextTokens,GeneratedTokens)`

/** @throws Error that names the wrong argument */
export function readArguments<Name extends string>(args: readonly string[], known: readonly Name[]): BenchArguments<Name> | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: { only: { type: 'string' }, json: { type: 'string' }, trace: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
  })
  if (values.help === true) return 'help'
  const wanted = values.only?.split(',').map((name) => name.trim())
  const unknown = wanted?.filter((name) => !(known as readonly string[]).includes(name)) ?? []
  if (unknown.length > 0) throw new Error(`--only: there is no ${unknown.map((name) => JSON.stringify(name)).join(', ')}; there are ${known.join(', ')}`)
  if (values.json === '') throw new Error('--json needs the name of a file, or -')
  return { names: known.filter((name) => wanted === undefined || wanted.includes(name)), json: values.json, trace: values.trace }
}

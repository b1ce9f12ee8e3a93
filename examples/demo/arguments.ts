import { parseArgs } from 'node:util'

export interface DemoArguments {
  /** A trace to replay; without it the demo sends a burst of its own. */
  readonly trace: string | undefined
  readonly speed: number | undefined
}

export const USAGE = `usage: npm run demo [-- --trace FILE.csv [--speed N]]
  --trace FILE.csv  replay a recorded trace (columns TIMESTAMP,ContextTokens,GeneratedTokens)
  --speed N         N times as fast as it was recorded; default: so that it takes about 25 s`

/** @throws Error that names the wrong argument */
export function readArguments(args: readonly string[]): DemoArguments | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: { trace: { type: 'string' }, speed: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
  })
  if (values.help === true) return 'help'
  const speed = values.speed === undefined ? undefined : Number(values.speed)
  if (speed !== undefined && !(speed > 0 && Number.isFinite(speed))) throw new Error(`--speed must be a number above 0 (got ${values.speed})`)
  if (speed !== undefined && values.trace === undefined) throw new Error('--speed needs --trace: it is the speed of the replay')
  return { trace: values.trace, speed }
}

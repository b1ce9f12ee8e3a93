import { existsSync } from 'node:fs'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readTrace } from '../../examples/demo/trace-file.js'

const FILE = fileURLToPath(new URL('../../../../shared/data/azure-llm-2023-code.csv', import.meta.url))
const CALLS = 8819
const HOUR_MS = 3_600_000

/** When calls arrive, in ms from the first. */
export interface Arrivals {
  readonly atMs: readonly number[]
  readonly source: string
}

/** Bursts of 1 to 60 calls within 10 s, at any time of an hour; the same in every run. */
function synthetic(): number[] {
  let state = 1
  // Park and Miller, "Random number generators: good ones are hard to find", 1988.
  const random = () => {
    state = (state * 48_271) % 2_147_483_647
    return state / 2_147_483_647
  }
  const times: number[] = []
  while (times.length < CALLS) {
    const begin = random() * (HOUR_MS - 10_000)
    const size = Math.min(CALLS - times.length, 1 + Math.floor(random() * 60))
    for (let i = 0; i < size; i++) times.push(begin + random() * 10_000)
  }
  const sorted = times.sort((a, b) => a - b)
  return sorted.map((time) => time - (sorted[0] as number))
}

/** The arrivals of a trace, `speed` times as fast: of the given file, else of the one beside the project, else a synthetic trace. */
export async function arrivals(file: string | undefined, speed: number): Promise<Arrivals> {
  const isSynthetic = file === undefined && !existsSync(FILE)
  const atMs = isSynthetic ? synthetic() : (await readTrace(file ?? FILE)).map((traced) => traced.atMs)
  return {
    atMs: atMs.map((at) => at / speed),
    source: isSynthetic ? `made-up bursts of the same size, since there is no ${basename(FILE)}` : basename(file ?? FILE),
  }
}

/** The earliest time at which the last call can start, through a token bucket that is full at the beginning. */
export function earliestEnd(atMs: readonly number[], perSecond: number, burst: number): number {
  let tokens = burst
  let now = 0
  for (const at of atMs) {
    const then = Math.max(now, at)
    tokens = Math.min(burst, tokens + ((then - now) * perSecond) / 1000)
    const wait = tokens >= 1 ? 0 : ((1 - tokens) / perSecond) * 1000
    tokens = Math.max(tokens, 1) - 1
    now = then + wait
  }
  return now
}

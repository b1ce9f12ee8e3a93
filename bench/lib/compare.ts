import { median } from './measure.js'

/** Checks in flight at any time. */
export const AT_ONCE = 50
export const ROUNDS = 7
const ROUND_MS = 400
const WARM_UP_MS = 1000

export type Check = (index: number) => Promise<unknown>
/** Sends checks for a time. @returns checks per second */
export type Contender = (forMs: number) => Promise<number>

/** A round has a length, not a number of checks: slow and fast contenders are measured for the same time. */
export function contender(check: Check): Contender {
  return async (forMs) => {
    let next = 0
    const begin = performance.now()
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        while (performance.now() < begin + forMs) await check(next++)
      }),
    )
    return next / ((performance.now() - begin) / 1000)
  }
}

/**
 * The median rate of each contender. They take turns, several times, so that a disturbance of
 * the machine meets all; each round begins with another contender, so that none always runs
 * after the same one.
 */
export async function compare<Name extends string>(contenders: Readonly<Record<Name, Contender>>): Promise<Record<Name, number>> {
  const names = Object.keys(contenders) as Name[]
  const rates = new Map<Name, number[]>(names.map((name) => [name, []]))
  for (const name of names) await contenders[name](WARM_UP_MS)
  for (let round = 0; round < ROUNDS; round++) {
    const first = round % names.length
    for (const name of [...names.slice(first), ...names.slice(0, first)]) rates.get(name)?.push(await contenders[name](ROUND_MS))
  }
  return Object.fromEntries(names.map((name) => [name, median(rates.get(name) ?? [])])) as Record<Name, number>
}

/** A rate as a whole number with separators. */
export const perSecond = (rate: number) => Math.round(rate).toLocaleString('en')

/** The fastest rate, and all rates as text. */
export function best(rates: Readonly<Record<string, number>>): { rate: number; all: string } {
  const sorted = Object.entries(rates).sort(([, a], [, b]) => b - a)
  return { rate: sorted[0]?.[1] ?? Number.NaN, all: sorted.map(([name, rate]) => `${name} ${perSecond(rate)}`).join(', ') }
}

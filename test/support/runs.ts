import fc from 'fast-check'

/**
 * `npm test` tries the same cases every time, so that only a change of the code can make a
 * property fail. TIMES=20 tries 20 times as many cases, drawn anew in each run.
 */
const times = Number(process.env['TIMES'] ?? 1)

if (times === 1) fc.configureGlobal({ seed: 1 })

/** @returns how many cases of a property to try */
export function runs(usual: number): number {
  return usual * times
}

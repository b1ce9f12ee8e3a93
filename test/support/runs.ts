import fc from 'fast-check'

/**
 * `npm test` tries the same cases every time, so that a failure is always of the change at
 * hand. To look for cases that nobody thought of: TIMES=20 tries so many times as many, at random.
 */
const times = Number(process.env['TIMES'] ?? 1)

if (times === 1) fc.configureGlobal({ seed: 1 })

/** How often a property is tried. */
export function runs(usual: number): number {
  return usual * times
}

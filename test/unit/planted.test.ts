import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { faultNamed, PROJECT, plantedFaults } from '../simulation/planted/faults.js'
import { rowOf } from '../simulation/planted/run-planted.js'

const faults = plantedFaults()

test('there are at least 20 planted faults, in Lua and in TypeScript', () => {
  expect(faults.length).toBeGreaterThanOrEqual(20)
  expect(faults.filter(({ files }) => files.every((file) => file.startsWith('lua/'))).length).toBeGreaterThanOrEqual(8)
  expect(faults.filter(({ files }) => files.every((file) => file.startsWith('src/'))).length).toBeGreaterThanOrEqual(8)
  expect(() => faultNamed('none')).toThrow(/no planted fault is called none/)
})

test.each(faults)('$name applies to the sources as they are, and says what it is', ({ patch, files, summary, oracles, breaks, needs, fleets }) => {
  // Where a change of the sources makes this fail, make the same mistake in the new code, and write the patch anew.
  execFileSync('git', ['apply', '--check', patch], { cwd: PROJECT, stdio: 'pipe' })
  expect(files.length).toBeGreaterThan(0)
  for (const file of files) expect(file).toMatch(/^(src|lua)\//)
  expect(summary).toMatch(/^[A-Z].{30,}\.$/)
  expect(oracles.length).toBeGreaterThan(0)
  expect(breaks.length).toBeGreaterThan(5)
  expect(needs.length).toBeGreaterThan(5)
  expect(fleets).toEqual([...new Set(fleets)])
})

test('a row of the table says by what a fault was found, and where', () => {
  const result = { name: 'a', seeds: 7, seconds: 1.25, elsewhere: undefined, failure: undefined }
  expect(rowOf({ ...result, finding: { oracle: 'never over', text: 'a|b\nc', where: 'seed 3' } })).toBe('| a | never over | seed 3 | 7 | 1.3 | a/b c |')
  expect(rowOf({ ...result, finding: { oracle: 'quiet', text: 'left', where: 'small scope' } })).toContain('| quiet | small scope |')
  expect(rowOf({ ...result, finding: undefined })).toContain('| NOT FOUND |')
  const elsewhere = { oracle: 'quiet', text: 'left', where: 'seed 9' }
  expect(rowOf({ ...result, finding: undefined, elsewhere })).toContain('| NOT FOUND |  | 7 | 1.3 | by another oracle (quiet, seed 9): left |')
})

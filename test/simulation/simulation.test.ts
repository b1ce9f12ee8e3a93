import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { SCENARIOS } from './scenarios/index.js'
import { missingPart } from './world/server.js'

const missing = missingPart()
const SEEDS = 16

/** The command, compiled: the program under test is loaded after Node's clock was replaced, which vitest has read long before. */
function simulate(...args: string[]): { code: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['dist/test/simulation/simulate.js', ...args], { encoding: 'utf8', maxBuffer: 1e8 })
  return { code: status, output: stdout + stderr }
}

/** The hash of each run: of every command, reply and event. */
function hashes(output: string): string[] {
  return [...output.matchAll(/^seed \d+ {2}([0-9a-f]{16})/gm)].map(([, hash]) => hash as string)
}

if (missing !== undefined) {
  test.skip(`the simulation was skipped: ${missing}`, () => {})
} else {
  test(`${SEEDS} fleets under drawn faults: no oracle reports anything but known faults`, { timeout: 180_000 }, () => {
    const { code, output } = simulate('--seeds', `1-${SEEDS}`)
    expect(output).toContain(`${SEEDS} runs`)
    expect(code, output).toBe(0)
  })

  test('the same seed is the same run, byte for byte, also in another process', { timeout: 60_000 }, () => {
    const [first, second] = [simulate('--seeds', '1-3', '--processes', '1'), simulate('--seeds', '1-3')]
    expect(hashes(first.output)).toHaveLength(3)
    expect(hashes(second.output)).toEqual(hashes(first.output))
  })

  test('every scenario shows its known faults and no other', { timeout: 120_000 }, () => {
    const { code, output } = simulate('--scenario', 'all')
    expect(output).toContain(`${SCENARIOS.length} runs`)
    expect(code, output).toBe(0)
  })

  test('small fleets, in every order of their steps as far as time allows, show known faults and no other', { timeout: 180_000 }, () => {
    const { code, output } = simulate('--small-scope', '--quick')
    expect(output).toMatch(/^deaths +[\d,]+ states/m)
    expect(code, output).toBe(0)
  })

  test('the story of a call tells what was sent about it, and what became of it', { timeout: 60_000 }, () => {
    const { output } = simulate('--scenario', 'two limits bind one after the other', '--trace', 'k3')
    expect(output).toMatch(/call k3, id [0-9a-f-]{36}/)
    expect(output).toMatch(/enqueue/)
    expect(output).toMatch(/the agent gets k3/)
    expect(output).toMatch(/k3 has a result: done/)
  })
}

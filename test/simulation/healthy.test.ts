import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import { expect, test } from 'vitest'
import type { HealthFacts } from '../../src/health/facts.js'
import { judge } from '../../src/health/judge.js'
import { isCalm } from './healthy.js'
import { missingPart } from './world/server.js'

const HOUR_MS = 3_600_000
const missing = missingPart()

test('an hour of a healthy fleet, as it was recorded, raises no alarm', () => {
  const file = new URL('../fixtures/healthy-hour.jsonl.gz', import.meta.url)
  const looks = gunzipSync(readFileSync(file))
    .toString()
    .split('\n')
    .map((line) => JSON.parse(line) as HealthFacts)
  expect((looks.at(-1) as HealthFacts).nowMs - (looks[0] as HealthFacts).nowMs).toBeGreaterThan(0.99 * HOUR_MS)
  // What the hour has to have, to say anything: lines at limits, agents that refuse, and workers that come and go.
  const lines = looks.flatMap(({ seen }) => seen?.lines ?? [])
  for (const rule of ['~block', 'org', 'user']) expect(lines.map((line) => line.rule)).toContain(rule)
  expect(new Set(looks.flatMap(({ workers }) => workers.map(({ id }) => id))).size).toBeGreaterThan(20)
  const alarms = looks.map(judge).filter((health) => !isCalm(health))
  expect(alarms).toEqual([])
})

if (missing !== undefined) {
  test.skip(`a healthy fleet was not simulated: ${missing}`, () => {})
} else {
  test('three minutes of a healthy fleet, with a deploy and an agent that refuses, raise no alarm', { timeout: 120_000 }, () => {
    const { status, stdout } = spawnSync(process.execPath, ['dist/test/simulation/simulate.js', '--healthy', '3'], { encoding: 'utf8' })
    expect(stdout).toMatch(/^\{"minutes":3,"looks":4\d,"alarms":0,"calls":\d{3},.*"refusals":[1-9]\d*,"workers":4\}$/m)
    expect(status, stdout).toBe(0)
  })
}

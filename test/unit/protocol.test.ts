import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { ALGORITHMS } from '../../src/limits/algorithms.js'
import { STRATEGIES } from '../../src/model/call.js'
import { COST_UNITS, UNITS } from '../../src/model/cost.js'
import {
  ALGORITHM_CODES,
  DETAIL,
  KIND_CODES,
  LUA_CONSTANTS,
  LUA_NAMES,
  OUTCOME,
  STRICTNESS_CODES,
  strategyOf,
  strictnessOf,
  UNIT_CODES,
} from '../../src/store/redis/protocol.js'

const LUA = fileURLToPath(new URL('../../lua/', import.meta.url))
const files = readdirSync(LUA, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.lua'))
const sources = files.map((file) => ({ file, text: readFileSync(join(LUA, file), 'utf8') }))

/** The names that a Lua text declares. */
function declared(text: string): string[] {
  return [...text.matchAll(/^\s*local (?!function)([\w, ]+?)(?: =|$)/gm)].flatMap(([, names = '']) => names.split(', '))
}

test('no Lua file declares a constant of the protocol, or names a code by its number', () => {
  expect(files.length).toBeGreaterThan(30)
  expect(declared('local UNIT = {}\n  local a, KIND = 1, 2').filter((name) => LUA_NAMES.includes(name))).toEqual(['UNIT', 'KIND'])
  for (const { file, text } of sources) {
    expect(
      declared(text).filter((name) => LUA_NAMES.includes(name)),
      file,
    ).toEqual([])
    expect(text.match(/Algorithms\[\d|\.kind [=~]= \d|KEYS\[\d+\] *(?:,|\)).*lines/g), file).toBeNull()
  }
})

test('every constant of the protocol is used by a Lua file, and every code once', () => {
  const code = sources.map(({ text }) => text.replace(/--.*$/gm, '')).join('\n')
  expect(LUA_NAMES.filter((name) => !new RegExp(`\\b${name}\\b`).test(code))).toEqual([])
  expect(declared(LUA_CONSTANTS)).toEqual(LUA_NAMES)
  for (const codes of [UNIT_CODES, ALGORITHM_CODES, KIND_CODES, OUTCOME, STRICTNESS_CODES, DETAIL]) {
    const values = Object.values(codes)
    expect(new Set(values).size).toBe(values.length)
  }
  expect(Object.keys(UNIT_CODES).sort()).toEqual([...UNITS].sort())
  // A batch and a reply have the costs in the order of their codes.
  expect(COST_UNITS.map((unit) => UNIT_CODES[unit])).toEqual(COST_UNITS.map((_, index) => index + 1))
  expect(STRATEGIES.map((strategy) => strategyOf(strictnessOf(strategy)))).toEqual([...STRATEGIES])
  expect(Object.keys(ALGORITHM_CODES).sort()).toEqual(Object.keys(ALGORITHMS).sort())
})

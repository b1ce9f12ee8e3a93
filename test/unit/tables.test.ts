import { expect, test } from 'vitest'
import { render, screenOf, table } from '../../src/cli/table.js'

const plain = { width: Number.POSITIVE_INFINITY, colours: false }

test('rows stand under their headings, numbers to the right, and nothing is cut where there is no terminal', () => {
  const rows = [
    { line: 'account/openai', depth: 12, waitsFor: 'RATE' },
    { line: 'x'.repeat(200), depth: 3, waitsFor: null },
  ]
  const lines = table(rows, plain).split('\n')
  expect(lines[0]).toMatch(/^line {198}depth {2}waitsFor$/)
  expect(lines[2]).toBe(`${'x'.repeat(200)}      3  –`)
})

test.each([40, 60, 80, 120])('a table fits a terminal of %d columns', (width) => {
  const rows = Array.from({ length: 5 }, (_, n) => ({ name: 'n'.repeat(20 + n), sentence: 'long '.repeat(40), number: n, limit: 'requests/minute' }))
  for (const line of table(rows, { width, colours: false }).split('\n')) expect([...line].length).toBeLessThanOrEqual(width)
})

test('colours are for terminals alone, and not where NO_COLOR is set or the terminal has none', () => {
  expect(screenOf({ isTTY: true, columns: 100 }, {})).toEqual({ width: 100, colours: true })
  expect(screenOf({ isTTY: true, columns: 100 }, { NO_COLOR: '1' }).colours).toBe(false)
  expect(screenOf({ isTTY: true, columns: 100 }, { TERM: 'dumb' }).colours).toBe(false)
  expect(screenOf({}, {})).toEqual(plain)
  expect(render([{ a: 1 }], { width: 80, colours: true })).toContain('\u001b[1m')
  expect(render([{ a: 1 }], plain)).toBe('a\n1')
})

test('an object is its names and values, and lists of rows stand below; no control character of a name reaches the terminal', () => {
  expect(render({ depth: 2, calls: [{ id: 'a\u001b[2J' }], names: ['x', 'y'] }, plain)).toBe('depth  2\nnames  x, y\n\ncalls\nid\na�[2J')
  expect(render([], plain)).toBe('none')
})

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const read = (file: string) => readFileSync(join(ROOT, file), 'utf8')
const INTERNALS = read('docs/internals.md')

/** The code in the first cell of every row below a heading. */
function firstCells(heading: string): string[] {
  const [, after = ''] = INTERNALS.split(`\n## ${heading}\n`)
  const rows = (after.split('\n## ')[0] as string).matchAll(/^\| `([^`]+)` \|/gm)
  return [...rows].map(([, cell]) => cell as string).sort()
}

test('internals names every script', () => {
  const scripts = readdirSync(join(ROOT, 'lua')).filter((file) => file.endsWith('.lua'))
  expect(scripts.length).toBeGreaterThan(15)
  expect(firstCells('The scripts')).toEqual(scripts.map((file) => file.replace('.lua', '')).sort())
})

test('internals names every key', () => {
  const source = read('src/redis/keys.ts').split('parseLine')[0] as string
  const channels = [...source.matchAll(/Channel: .*\n {2}readonly (\w+)/g)].map(([, name]) => `/${name}`)
  expect(channels.length).toBeGreaterThan(0)
  const keys = [...source.matchAll(/\$\{this\.own\}(\/[^`]+)`/g)].map(([, key]) => (key as string).replace(/\$\{(\w+)\}/g, '<$1>'))
  expect(firstCells('What is in Redis')).toEqual(keys.filter((key) => !channels.includes(key)).sort())
})

test('the files that contributors are pointed to exist', () => {
  for (const page of ['CONTRIBUTING.md', 'docs/internals.md', 'docs/states.md']) {
    const named = [...read(page).matchAll(/`((?:src|lua|test|testing|bench|scripts|examples|workers|docs)\/[\w./-]+)`/g)].map(([, path]) => path as string)
    expect(
      named.filter((path) => !existsSync(join(ROOT, path))),
      page,
    ).toEqual([])
  }
})

import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

/** The units of `src`, top to bottom: each may import only from those after it. CONTRIBUTING prints the same list. */
const LAYERS = [
  'index',
  'cli',
  'dashboard',
  'http',
  'middleware',
  'tollgate',
  'open',
  'options',
  'agents',
  'alerts',
  'health',
  'queue',
  'limiter',
  'gate',
  'history',
  'telemetry',
  'outage',
  'upstream',
  'administration',
  'store',
  'admission',
  'policy',
  'redis',
  'limits',
  'pricing',
  'validation',
  'model',
]

function unitOf(file: string): string {
  const [, unit = ''] = file.split('/')
  return unit.replace(/\.ts$/, '')
}

const files = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .map((file) => `src/${file}`)

/** Every import of one file of `src` from another, types included. */
const imports = files.flatMap((from) =>
  [...readFileSync(join(ROOT, from), 'utf8').matchAll(/(?:from|import\() ?'(\.[^']+)'/g)].map(([, specifier = '']) => ({
    from,
    to: normalize(join(dirname(from), specifier)).replace(/\.js$/, '.ts'),
  })),
)

test('every import of src points down the list of layers', () => {
  expect(imports.length).toBeGreaterThan(400)
  expect(files.map(unitOf).filter((unit) => !LAYERS.includes(unit))).toEqual([])
  const upward = imports.filter(({ from, to }) => LAYERS.indexOf(unitOf(to)) < LAYERS.indexOf(unitOf(from)))
  expect(upward.map(({ from, to }) => `${from} -> ${to}`)).toEqual([])
})

test('src imports no file from outside, and CONTRIBUTING prints the same layers', () => {
  expect(imports.filter(({ to }) => !to.startsWith('src/'))).toEqual([])
  const page = readFileSync(join(ROOT, 'CONTRIBUTING.md'), 'utf8')
  const [, printed = ''] = /```layers\n([\s\S]*?)```/.exec(page) ?? []
  const units = printed
    .split('\n')
    .flatMap((line) => (line.split(/ {2,}/)[0] ?? '').split(' '))
    .filter((word) => word !== '')
  expect(units.map((unit) => unit.replace(/(\/|\.ts)$/, ''))).toEqual(LAYERS)
})

import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'

interface Entry {
  readonly version?: string
  readonly integrity?: string
  readonly resolved?: string
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

const { packages } = JSON.parse(readFileSync(new URL('../../package-lock.json', import.meta.url), 'utf8')) as { packages: Readonly<Record<string, Entry>> }
const entries = Object.entries(packages).filter(([path]) => path !== '')

test('the lock holds a version and a checksum of every package, of every platform, and no address to load it from', () => {
  expect(entries.length).toBeGreaterThan(100)
  const lacking = entries.filter(([, { version, integrity }]) => version === undefined || integrity === undefined)
  expect(lacking.map(([path]) => path)).toEqual([])
  expect(entries.filter(([, { resolved }]) => resolved !== undefined).map(([path]) => path)).toEqual([])
})

test('the lock holds the optional packages for every platform', () => {
  const names = new Set(entries.map(([path]) => path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length)))
  const missing = entries.flatMap(([path, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies)
      .filter((name) => !names.has(name))
      .map((name) => `${path}: ${name}`),
  )
  expect(missing).toEqual([])
})

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)
const INCLUDE = /^--- @include "([^"]+)"$/gm

/** A Lua file with what it includes in its place; what was included before is left out. */
function readLua(path: string, included: Set<string>): string {
  if (included.has(path)) return ''
  included.add(path)
  const source = readFileSync(require.resolve(`#lua/${path}`), 'utf8')
  return source.replace(INCLUDE, (_, other: string) => readLua(other, included))
}

/** Everything that a Lua file includes, and the file without that. */
export function splitLua(path: string, included: Set<string>): { libraries: string; body: string } {
  const source = readFileSync(require.resolve(`#lua/${path}`), 'utf8')
  const libraries = [...source.matchAll(INCLUDE)].map(([, other]) => readLua(other as string, included)).join('')
  return { libraries, body: source.replace(INCLUDE, '') }
}

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { root } from './files.mjs'

const LUA = join(root, 'lua')

/** The paths of all Lua files, in a stable order. */
export function luaFiles() {
  const files = readdirSync(LUA, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.lua'))
  return files.map((file) => join(LUA, file)).sort()
}

function textByName() {
  const entries = luaFiles().map((file) => [file.slice(LUA.length + 1).replaceAll('\\', '/'), readFileSync(file, 'utf8')])
  return JSON.stringify(Object.fromEntries(entries), null, 2)
}

/** The module that src/redis/lua-text.d.ts declares, as an ES module. */
export function luaTextModule() {
  return `export const LUA_TEXT = ${textByName()}\n`
}

/** The same for `require`. */
function luaTextCommonJs() {
  return `'use strict'\nexports.LUA_TEXT = ${textByName()}\n`
}

/** Writes the text of lua/ into a compiled src folder. */
export function writeLuaText(folder, format) {
  const file = join(folder, 'redis', 'lua-text.js')
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, format === 'cjs' ? luaTextCommonJs() : luaTextModule())
}

/** A Vite plugin: tests that import src/redis/lua-text.js get the current text of lua/, and run again when it changes. */
export function luaTextPlugin() {
  const id = '\0lua-text'
  return {
    name: 'lua-text',
    enforce: 'pre',
    resolveId: (source) => (source.endsWith('/lua-text.js') ? id : undefined),
    load(loaded) {
      if (loaded !== id) return undefined
      for (const file of luaFiles()) this.addWatchFile(file)
      return luaTextModule()
    },
  }
}

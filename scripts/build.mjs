import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runQuietly } from './child.mjs'
import { binOf } from './dependencies.mjs'
import { Failure, status } from './failure.mjs'
import { newestIn, root, writtenAt } from './files.mjs'

/** What a command runs, once built. */
export const entries = {
  demo: join(root, 'dist', 'examples', 'demo', 'main.js'),
  bench: join(root, 'dist', 'bench', 'main.js'),
}

const CONFIG = 'tsconfig.build.json'
const SOURCES = ['src', 'workers', 'bench', 'examples']
const SETTINGS = [CONFIG, 'tsconfig.json', 'package-lock.json']
// The time of the last whole build: a build that broke off has written some files, not this one.
const STAMP = join(root, 'dist', '.built')

/** Compiles, unless the last build is newer than every source. */
export async function build(name) {
  const entry = entries[name]
  const changed = Math.max(...SOURCES.map((folder) => newestIn(join(root, folder))), ...SETTINGS.map((file) => writtenAt(join(root, file))))
  if (existsSync(entry) && writtenAt(STAMP) > changed) return
  status('building')
  await runQuietly(process.execPath, [binOf('typescript', 'tsc'), '-p', join(root, CONFIG)])
  if (!existsSync(entry)) throw new Failure(`there is no ${name} in this checkout: the build made no ${entry}`)
  writeFileSync(STAMP, '')
}

import { readdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** When a file was last written, in ms; 0 if it is not there. */
export function writtenAt(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0
}

/** When the newest of a folder's files was written; 0 if there are none. */
export function newestIn(folder) {
  if (writtenAt(folder) === 0) return 0
  const files = readdirSync(folder, { recursive: true })
  return files.reduce((newest, file) => Math.max(newest, writtenAt(join(folder, file))), 0)
}

import { createHash } from 'node:crypto'
import { createRequire } from 'node:module'
import path from 'node:path'

/** The scripts of BullMQ by their hash, so that a fault can be told to happen after `moveToFinished`. Their texts are in its package, one module each. */
function bullmqScripts(): ReadonlyMap<string, string> {
  const require = createRequire(import.meta.url)
  const scripts = require(path.join(path.dirname(require.resolve('bullmq')), 'scripts/index.js')) as Record<
    string,
    { readonly name: string; readonly content: string }
  >
  return new Map(Object.values(scripts).map(({ name, content }) => [createHash('sha1').update(content).digest('hex'), name]))
}

let scriptNames: ReadonlyMap<string, string> | undefined

/** What a command is called in journals and scenarios: for a call of a script the script's name. */
export function commandName(name: string, args: readonly Buffer[]): string {
  if (name === 'FCALL') return (args[1] as Buffer).toString('latin1').replace(/^tollgate_[0-9a-f]{16}_/, '')
  if (name !== 'EVALSHA') return name
  scriptNames ??= bullmqScripts()
  return scriptNames.get((args[1] as Buffer).toString('latin1')) ?? name
}

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { runQuietly } from './child.mjs'
import { Failure, status } from './failure.mjs'
import { root, writtenAt } from './files.mjs'

function needsNode() {
  const { engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const [major, minor] = /(\d+)\.(\d+)/.exec(engines.node).slice(1).map(Number)
  const [ourMajor, ourMinor] = process.versions.node.split('.').map(Number)
  if (ourMajor < major || (ourMajor === major && ourMinor < minor)) throw new Failure(`Node ${engines.node} is needed; this is ${process.versions.node}`)
}

/** Installs the packages of package-lock.json, unless they were installed after its last change. */
export async function installDependencies() {
  needsNode()
  const lock = join(root, 'package-lock.json')
  // npm writes this file last: an install that broke off has none.
  const installed = writtenAt(join(root, 'node_modules', '.package-lock.json'))
  if (installed > 0 && installed >= writtenAt(lock)) return
  status('installing dependencies')
  const verb = existsSync(lock) ? 'ci' : 'install'
  // NODE_ENV=production would leave out the compiler and the test runner.
  await runQuietly('npm', [verb, '--include=dev', '--no-audit', '--no-fund', '--prefix', root])
}

/** The script behind a package's command, to be run by the Node that runs this. */
export function binOf(name, command) {
  const folder = join(root, 'node_modules', name)
  const { bin } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  return join(folder, typeof bin === 'string' ? bin : bin[command])
}

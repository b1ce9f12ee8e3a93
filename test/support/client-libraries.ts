import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cp, mkdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)
const fixture = fileURLToPath(new URL('../fixtures/clients', import.meta.url))
const root = dirname(createRequire(import.meta.url).resolve('tollgate/package.json'))

/** Client libraries, and other versions of Node to run them with. */
export interface ClientLibraries {
  /** The executable of Node 20 (that of the tests), 22 or 24. */
  node(version: 20 | 22 | 24): string
  /** Runs `run.mjs` of the fixture. @returns what it printed, as JSON */
  call<Outcome>(version: 20 | 22 | 24, library: string, url: string): Promise<Outcome>
}

/**
 * Installs them beside the packages of the project at the first use: together they are larger than all of those, and only one test needs them. They stay
 * for the next run, until their versions change.
 */
export async function clientLibraries(): Promise<ClientLibraries> {
  const versions = createHash('sha256').update(await readFile(join(fixture, 'package.json')))
  const folder = join(root, 'node_modules/.cache/tollgate-clients', versions.digest('hex').slice(0, 16))
  if (!(await exists(folder))) await install(folder)
  await cp(join(fixture, 'run.mjs'), join(folder, 'run.mjs'))
  const node = (version: 20 | 22 | 24) => (version === 20 ? process.execPath : join(folder, `node_modules/node${version}/bin/node`))
  return {
    node,
    async call<Outcome>(version: 20 | 22 | 24, library: string, url: string) {
      const { stdout } = await run(node(version), [join(folder, 'run.mjs'), library, url], { timeout: 50_000 })
      return JSON.parse(stdout) as Outcome
    },
  }
}

async function install(folder: string): Promise<void> {
  const unfinished = `${folder}.${process.pid}`
  await mkdir(unfinished, { recursive: true })
  await cp(join(fixture, 'package.json'), join(unfinished, 'package.json'))
  await run('npm', ['install', '--no-audit', '--no-fund', '--no-package-lock', '--loglevel=error'], { cwd: unfinished, timeout: 280_000 })
  await rename(unfinished, folder).catch(async (error: unknown) => {
    await rm(unfinished, { recursive: true })
    if (!(await exists(folder))) throw error
  })
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}

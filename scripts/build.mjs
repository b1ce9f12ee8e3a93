import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runQuietly } from './child.mjs'
import { writeDashboard } from './dashboard.mjs'
import { binOf } from './dependencies.mjs'
import { Failure, status } from './failure.mjs'
import { newestIn, root, writtenAt } from './files.mjs'
import { writeLuaText } from './lua-text.mjs'

const DIST = join(root, 'dist')

/** The file that each command runs, after the build. */
export const entries = {
  demo: join(DIST, 'examples', 'demo', 'main.js'),
  screenshots: join(DIST, 'examples', 'dashboard', 'screenshots.js'),
  bench: join(DIST, 'bench', 'main.js'),
  'files-entered': join(root, 'scripts', 'files-entered.mjs'),
  simulate: join(DIST, 'test', 'simulation', 'simulate.js'),
}

const CONFIG = 'tsconfig.build.json'
const COMMON_JS_CONFIG = 'tsconfig.cjs.json'
const SOURCES = ['src', 'lua', 'workers', 'bench', 'examples', 'testing', 'test/simulation']
const SETTINGS = [CONFIG, 'tsconfig.json', 'package-lock.json']
// Its time is that of the last complete build: a build that broke off has not written it.
const STAMP = join(DIST, '.built')

function compile(config) {
  return runQuietly(process.execPath, [binOf('typescript', 'tsc'), '-p', join(root, config)])
}

/** ES modules: the package for `import`, the command line, workers, examples and benchmarks. */
export async function buildModules() {
  await compile(CONFIG)
  writeLuaText(join(DIST, 'src'), 'esm')
  await writeDashboard(join(DIST, 'src'))
}

/** TypeScript puts the `require` of an awaited import into a callback; bundlers take a missing module as optional only in the `try` itself. */
function requireInTry(file, name) {
  const inCallback = `Promise.resolve().then(() => __importStar(require('${name}')))`
  const text = readFileSync(file, 'utf8')
  if (!text.includes(inCallback)) throw new Failure(`${file} does not load ${name} as expected`)
  writeFileSync(file, text.replace(inCallback, `__importStar(require('${name}'))`))
}

/** CommonJS: the package for `require`. */
export async function buildCommonJs() {
  const folder = join(DIST, 'cjs')
  await compile(COMMON_JS_CONFIG)
  requireInTry(join(folder, 'src', 'upstream', 'nats-bus.js'), '@nats-io/transport-node')
  writeLuaText(join(folder, 'src'), 'cjs')
  writeFileSync(join(folder, 'package.json'), '{ "type": "commonjs" }\n')
}

/** The whole package, into an empty folder: a file removed from the sources is not left over. */
export async function buildPackage() {
  rmSync(DIST, { recursive: true, force: true })
  await buildModules()
  await buildCommonJs()
}

/** Compiles the program of a command, unless the last build is newer than every source. */
export async function build(name) {
  const entry = entries[name]
  const changed = Math.max(...SOURCES.map((folder) => newestIn(join(root, folder))), ...SETTINGS.map((file) => writtenAt(join(root, file))))
  if (existsSync(entry) && writtenAt(STAMP) > changed) return
  status('building')
  await buildModules()
  if (!existsSync(entry)) throw new Failure(`there is no ${name} in this checkout: the build made no ${entry}`)
  writeFileSync(STAMP, '')
}

import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './files.mjs'

const VIEW = join(root, 'src', 'dashboard', 'view')
const COMMON = { bundle: true, minify: true, write: false, jsx: 'automatic', jsxImportSource: 'preact', logLevel: 'silent', legalComments: 'none' }

/** The sources of the pages, in a stable order. */
export function viewFiles() {
  return readdirSync(VIEW)
    .sort()
    .map((file) => join(VIEW, file))
}

/** The program that writes a page as HTML: Preact is in it, so the package does not depend on Preact. */
async function renderModule() {
  const { build } = await import('esbuild')
  const built = await build({
    ...COMMON,
    entryPoints: [join(VIEW, 'server.tsx')],
    format: 'esm',
    platform: 'node',
    target: 'node20',
    external: ['./burn-up.js'],
  })
  return built.outputFiles[0].text
}

/** What browsers load, by file name; names hold a hash of the content, but for the two that each page begins with. */
async function assets() {
  const { build } = await import('esbuild')
  const outdir = join(root, 'dist', 'assets')
  const scripts = await build({
    ...COMMON,
    entryPoints: { client: join(VIEW, 'client.tsx') },
    outdir,
    format: 'esm',
    splitting: true,
    platform: 'browser',
    target: ['chrome119', 'firefox120', 'safari17.2'],
    chunkNames: '[name]-[hash]',
  })
  const styles = await build({ ...COMMON, entryPoints: [join(VIEW, 'style.css')], outdir, target: ['chrome119', 'firefox120', 'safari17.2'] })
  const files = [...scripts.outputFiles, ...styles.outputFiles].map(({ path, text }) => [path.slice(outdir.length + 1).replaceAll('\\', '/'), text])
  const icon = readFileSync(join(VIEW, 'icon.svg'), 'utf8')
  return Object.fromEntries([...files, ['icon.svg', icon]].sort())
}

/** The module that src/dashboard/assets.d.ts declares. */
async function assetsModule() {
  const files = await assets()
  const version = createHash('sha256').update(JSON.stringify(files)).digest('base64url').slice(0, 10)
  return `export const ASSETS = ${JSON.stringify(files)}\nexport const ASSETS_VERSION = ${JSON.stringify(version)}\n`
}

/** Writes what the pages are made of into a compiled src folder. */
export async function writeDashboard(folder) {
  const place = join(folder, 'dashboard')
  mkdirSync(place, { recursive: true })
  writeFileSync(join(place, 'render.js'), await renderModule())
  writeFileSync(join(place, 'assets.js'), await assetsModule())
}

const MODULES = { '/dashboard/render.js': renderModule, '/dashboard/assets.js': assetsModule, './render.js': renderModule, './assets.js': assetsModule }

/** A Vite plugin: tests get the pages of the current sources. */
export function dashboardPlugin() {
  return {
    name: 'dashboard',
    enforce: 'pre',
    resolveId: (source, importer = '') => {
      const isOurs = importer.includes(join('src', 'dashboard')) || source.includes('/dashboard/')
      const [, module] = Object.entries(MODULES).find(([name]) => isOurs && source.endsWith(name)) ?? []
      return module === undefined ? undefined : `\0dashboard-${module.name}`
    },
    async load(loaded) {
      const module = { '\0dashboard-renderModule': renderModule, '\0dashboard-assetsModule': assetsModule }[loaded]
      if (module === undefined) return undefined
      for (const file of viewFiles()) this.addWatchFile(file)
      return module()
    },
  }
}

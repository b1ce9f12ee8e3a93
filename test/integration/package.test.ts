import { execFile } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { build } from 'esbuild'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { newNamespace } from '../support/namespace.js'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const FOUND = { results: [{ echoed: 'tell me' }, { echoed: 2 }], allowed: [true, false] }

/** A project with the packed package and its dependencies, and nothing else. */
const project = mkdtempSync(join(tmpdir(), 'tollgate-package-'))
const modules = join(project, 'node_modules')
let tarball: string

const execute = promisify(execFile)

/** Runs a program of Node with the tests' Redis; rejects where it fails. */
async function node(file: string, args: readonly string[] = [], cwd = project): Promise<{ stdout: string; stderr: string }> {
  const env = { PATH: process.env['PATH'], HOME: process.env['HOME'], REDIS_URL: inject('redisUrl'), NAMESPACE: newNamespace().name }
  try {
    return await execute(process.execPath, [file, ...args], { cwd, env })
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: string; stderr?: string }
    throw new Error(`${file} failed\n${stdout}\n${stderr}`, { cause: error })
  }
}

/** The script of a development dependency. */
function bin(name: string, command: string): string {
  const folder = join(ROOT, 'node_modules', name)
  const { bin: bins } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { bin: string | Record<string, string> }
  return join(folder, typeof bins === 'string' ? bins : (bins[command] as string))
}

function link(name: string): void {
  const place = join(modules, name)
  mkdirSync(dirname(place), { recursive: true })
  symlinkSync(join(ROOT, 'node_modules', name), place, 'junction')
}

beforeAll(async () => {
  await node('scripts/run.mjs', ['build', 'cjs'], ROOT)
  const { stdout } = await execute('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', project], {
    cwd: ROOT,
    shell: process.platform === 'win32',
  })
  tarball = join(project, (JSON.parse(stdout) as { filename: string }[])[0]?.filename ?? expect.fail('no tarball'))
  mkdirSync(modules)
  await execute('tar', ['-xzf', tarball, '-C', modules])
  renameSync(join(modules, 'package'), join(modules, 'tollgate'))
  const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { dependencies: Record<string, string> }
  for (const name of Object.keys(dependencies)) link(name)
  link('@types/node')
  cpSync(join(ROOT, 'test/fixtures/package'), project, { recursive: true })
  await node(bin('typescript', 'tsc'), ['-p', project])
})

afterAll(() => rmSync(project, { recursive: true, force: true }))

test('attw and publint find nothing, and the tarball holds the Lua as a module', async () => {
  expect((await node(bin('@arethetypeswrong/cli', 'attw'), [tarball])).stdout).toContain('No problems found')
  expect((await node(bin('publint', 'publint'), [tarball, '--strict'])).stdout).toContain('All good!')
  expect(readdirSync(join(modules, 'tollgate'))).not.toContain('lua')
})

test('importing the package prints nothing, opens nothing, reads no environment and loads neither metrics nor command line', async () => {
  const { stdout, stderr } = await node('quiet.mjs')
  const found = JSON.parse(stdout) as Record<'names' | 'read' | 'handles' | 'loaded', string[]>
  expect(found).toMatchObject({ read: [], handles: [], listeners: 0 })
  expect(found.names).toContain('Tollgate')
  expect(found.loaded).toContain('ioredis')
  for (const name of ['prom-client', 'commander', '@nats-io/transport-node', 'gpt-tokenizer']) expect(found.loaded).not.toContain(name)
  expect(stderr).toBe('')
})

test('TypeScript with module node16 compiles a CommonJS program with the package; it runs, and the package prints nothing', async () => {
  const { stdout, stderr } = await node('out/main.js')
  expect(JSON.parse(stdout)).toEqual(FOUND)
  expect(stderr).toBe('')
})

test('the ES module and the CommonJS copy know each other’s errors, and a NATS that is not installed is named', async () => {
  const { stdout } = await node('out/copies.mjs')
  const found = JSON.parse(stdout) as { nats: string }
  expect(found).toMatchObject({ two: true, instances: [true, true, false, false], cases: true })
  expect(found.nats).toMatch(/^bus: a NATS needs version 3 of the package @nats-io\/transport-node; add it to your dependencies/)
})

test('the package runs under jest', async () => {
  await node(bin('jest', 'jest'), ['--rootDir', project, '--watchman=false', '--detectOpenHandles'])
})

test.each([
  ['cjs', 'out/main.js', {}],
  ['esm', 'main.ts', { js: "import { createRequire } from 'node:module'\nconst require = createRequire(import.meta.url)" }],
] as const)('a bundle that esbuild made of the package runs alone (%s, minified)', async (format, entry, banner) => {
  // Without node_modules: everything must be in the bundle.
  const alone = mkdtempSync(join(tmpdir(), 'tollgate-bundle-'))
  try {
    const outfile = join(alone, format === 'esm' ? 'bundle.mjs' : 'bundle.cjs')
    const { warnings, metafile } = await build({
      entryPoints: [join(project, entry)],
      outfile,
      format,
      banner,
      bundle: true,
      minify: true,
      platform: 'node',
      metafile: true,
      logLevel: 'silent',
    })
    expect(warnings.map(({ text }) => text)).toEqual([])
    const copies = new Set(Object.keys(metafile.inputs).flatMap((file) => /tollgate\/dist\/(src|cjs)/.exec(file)?.[1] ?? []))
    expect([...copies]).toEqual([format === 'esm' ? 'src' : 'cjs'])
    expect(JSON.parse((await node(outfile, [], alone)).stdout)).toEqual(FOUND)
  } finally {
    rmSync(alone, { recursive: true, force: true })
  }
})

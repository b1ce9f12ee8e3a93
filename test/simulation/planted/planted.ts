import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { faultNamed, PROJECT } from './faults.js'

/** What a copy of the project needs to be compiled. */
const COPIED = ['src', 'lua', 'scripts', 'package.json', 'tsconfig.json'] as const

/** Compiles `src` alone, into `dist/src`, where the simulation looks for the program under test. Types are not checked: that takes the most time. */
const CONFIG = {
  extends: './tsconfig.json',
  compilerOptions: { noEmit: false, declaration: false, noCheck: true, sourceMap: false, outDir: 'dist', rootDir: '.' },
  include: ['src'],
}

const WRITE_LUA_TEXT = "import { writeLuaText } from './scripts/lua-text.mjs'\nwriteLuaText('dist/src', 'esm')\n"

/** A copy of the project with one fault in it. */
export interface PlantedCopy {
  /** The folder of the copy: a program under test. */
  readonly root: string
  /** Deletes the copy. */
  remove(): void
}

async function run(folder: string, command: string, args: readonly string[]): Promise<void> {
  // A repository above the folder of temporary files must not decide what the paths in a patch mean.
  const env = { ...process.env, GIT_CEILING_DIRECTORIES: dirname(folder) }
  const child = spawn(command, args, { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] })
  const [output, errors, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close') as Promise<[number | null]>])
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} failed with exit code ${code}\n${output}${errors}`)
}

/**
 * Compiles a copy of the project's sources, as they are now, with some of the planted faults.
 * @throws where a patch does not apply; no copy is left then
 */
export async function plant(...names: readonly string[]): Promise<PlantedCopy> {
  const patches = names.map((name) => faultNamed(name).patch)
  const root = mkdtempSync(join(tmpdir(), 'tollgate-planted-'))
  const remove = () => rmSync(root, { recursive: true, force: true })
  try {
    for (const path of COPIED) cpSync(join(PROJECT, path), join(root, path), { recursive: true })
    // For reading only: the packages of the copy are the project's own.
    symlinkSync(join(PROJECT, 'node_modules'), join(root, 'node_modules'), 'dir')
    writeFileSync(join(root, 'tsconfig.planted.json'), JSON.stringify(CONFIG))
    if (patches.length > 0) await run(root, 'git', ['apply', ...patches])
    const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin', 'tsc')
    await run(root, process.execPath, [tsc, '-p', 'tsconfig.planted.json'])
    await run(root, process.execPath, ['--input-type=module', '--eval', WRITE_LUA_TEXT])
    return { root, remove }
  } catch (error) {
    remove()
    throw error
  }
}

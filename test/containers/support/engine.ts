import { execFile, execFileSync } from 'node:child_process'
import { cp, mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { GenericContainer } from 'testcontainers'
import { redisProgram } from '../../support/redis-process.js'

const execute = promisify(execFile)
/** For one command of the engine. */
const ANSWER_MS = 30_000
/** For the images of a registry. */
const PULL_MS = 120_000

// The container that removes others is an image of a registry; this suite removes its own.
process.env['TESTCONTAINERS_RYUK_DISABLED'] = 'true'
// Containers are reached at their own addresses. Otherwise the engine is asked for its default network, which it may not have.
process.env['TESTCONTAINERS_HOST_OVERRIDE'] ??= '127.0.0.1'

export async function docker(args: readonly string[], timeoutMs = ANSWER_MS): Promise<string> {
  const { stdout } = await execute('docker', [...args], { timeout: timeoutMs })
  return stdout.trim()
}

/** Why containers cannot be tried on this machine; undefined where they can. */
export function whyNoEngine(): string | undefined {
  // Elsewhere containers run in a machine of their own, and have no address here.
  if (process.platform !== 'linux') return 'the addresses of containers are reached on Linux only'
  try {
    execFileSync('docker', ['version', '--format', '{{.Server.Version}}'], { timeout: ANSWER_MS, stdio: 'pipe' })
    return undefined
  } catch (error) {
    const { code, stderr } = error as { code?: unknown; stderr?: Buffer }
    return code === 'ENOENT'
      ? 'there is no docker on the PATH'
      : `no engine answers (${String(stderr ?? error)
          .trim()
          .split('\n')
          .at(-1)})`
  }
}

/** Whether an image is there, or can be had from a registry. */
export async function hasImage(name: string): Promise<boolean> {
  const tried = [
    ['image', 'inspect', name],
    ['pull', '--quiet', name],
  ]
  for (const args of tried) {
    const there = await docker(args, PULL_MS).then(
      () => true,
      () => false,
    )
    if (there) return true
  }
  return false
}

const OFFICIAL = 'redis:7-alpine'
const OWN = 'tollgate-test-redis'

/** An image of Redis: the official one, or else one of this machine's own redis-server and its libraries. */
export async function redisImage(): Promise<string> {
  if (await hasImage(OFFICIAL)) return OFFICIAL
  const program = redisProgram()
  if (program === undefined) throw new Error(`${OFFICIAL} cannot be had, and there is no redis-server to make an image of`)
  const folder = await mkdtemp(join(tmpdir(), 'tollgate-image-'))
  try {
    const path = execFileSync('which', [program], { encoding: 'utf8' }).trim()
    const libraries = execFileSync('ldd', [path], { encoding: 'utf8' }).match(/\/\S+/g) ?? []
    for (const file of [path, ...libraries]) {
      const target = join(folder, 'root', file)
      await mkdir(dirname(target), { recursive: true })
      await cp(await realpath(file), target)
    }
    await writeFile(join(folder, 'Dockerfile'), `FROM scratch\nCOPY root /\nWORKDIR /data\nENTRYPOINT ["${path}"]\n`)
    await GenericContainer.fromDockerfile(folder).build(OWN, { deleteOnExit: false })
    return OWN
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const execute = promisify(execFile)

/** `docker compose`, or Debian's `docker-compose`; undefined where there is neither. */
async function composeProgram(): Promise<readonly [string, ...string[]] | undefined> {
  for (const [program, ...args] of [['docker', 'compose'], ['docker-compose']] as const) {
    const there = await execute(program, [...args, 'version'], { timeout: 30_000 }).catch(() => undefined)
    if (there !== undefined) return [program, ...args]
  }
  return undefined
}

test('docker compose takes docker-compose.yml, and says which key is missing', async () => {
  const found = await composeProgram()
  if (found === undefined) {
    console.warn('docker-compose.yml is not tried with docker compose: it is not installed (apt-get install docker-compose)')
    return
  }
  const [program, ...args] = found
  const config = (env: NodeJS.ProcessEnv) => execute(program, [...args, '-f', 'docker-compose.yml', 'config'], { cwd: ROOT, env })
  const { stdout } = await config({ ...process.env, TOLLGATE_ADMIN_KEYS: '0123456789abcdef' })
  for (const service of ['redis', 'server', 'worker', 'prometheus', 'grafana']) expect(stdout).toMatch(new RegExp(`^ {2}${service}:$`, 'm'))
  const { TOLLGATE_ADMIN_KEYS: _, ...without } = process.env
  await expect(config(without)).rejects.toThrow(/a key of 16 characters or more/)
})

import { runQuietly } from './child.mjs'
import { Failure, status } from './failure.mjs'
import { serverProgram, works } from './redis-programs.mjs'

function aptGet() {
  if (!works('apt-get', '--version')) return undefined
  if (process.getuid?.() === 0) return ['apt-get']
  // Without a question: nobody may be there to type a password.
  return works('sudo', '-n', 'true') ? ['sudo', '-n', 'apt-get'] : undefined
}

async function withApt([command, ...before]) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  await runQuietly(command, [...before, 'update'], env)
  await runQuietly(command, [...before, 'install', '-y', '--no-install-recommends', 'redis-server'], env)
}

/**
 * Installs a server with the system's package manager and returns its name, or undefined
 * where there is no way to. Whether the package starts a service is nothing we rely on.
 * @throws Interrupted
 */
export async function install() {
  const apt = aptGet()
  const brew = apt === undefined && works('brew', '--version')
  if (apt === undefined && !brew) return undefined
  status(`installing Redis with ${brew ? 'brew' : 'apt-get'}`)
  try {
    await (brew ? runQuietly('brew', ['install', 'redis']) : withApt(apt))
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    console.error(error.message)
  }
  return serverProgram()
}

import { runQuietly } from './child.mjs'
import { Failure, status } from './failure.mjs'
import { natsProgram, serverProgram, works } from './redis-programs.mjs'

function aptGet() {
  if (!works('apt-get', '--version')) return undefined
  if (process.getuid?.() === 0) return ['apt-get']
  // -n: there may be no user at the terminal to type a password.
  return works('sudo', '-n', 'true') ? ['sudo', '-n', 'apt-get'] : undefined
}

async function withApt([command, ...before], name) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  await runQuietly(command, [...before, 'update'], env)
  await runQuietly(command, [...before, 'install', '-y', '--no-install-recommends', name], env)
}

/**
 * Installs a Redis with the system's package manager and returns the name of its program;
 * undefined where that is not possible. The package may start a service or not.
 * @throws Interrupted
 */
export async function install() {
  await installPackage('Redis', 'redis-server', 'redis')
  return serverProgram()
}

/** The same for a NATS. @throws Interrupted */
export async function installNats() {
  await installPackage('NATS', 'nats-server', 'nats-server')
  return natsProgram()
}

async function installPackage(what, ofApt, ofBrew) {
  const apt = aptGet()
  const brew = apt === undefined && works('brew', '--version')
  if (apt === undefined && !brew) return
  status(`installing ${what} with ${brew ? 'brew' : 'apt-get'}`)
  try {
    await (brew ? runQuietly('brew', ['install', ofBrew]) : withApt(apt, ofApt))
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    console.error(error.message)
  }
}

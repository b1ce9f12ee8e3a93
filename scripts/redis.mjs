import { randomUUID } from 'node:crypto'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stopIfAsked } from './child.mjs'
import { Failure, status } from './failure.mjs'
import { install, installNats } from './install-redis.mjs'
import { keep } from './keep.mjs'
import { freePort } from './port.mjs'
import { dockerWorks, natsProgram, serverProgram } from './redis-programs.mjs'

// A gate that forgets is no gate: nothing is evicted, and what was written survives a restart.
const FLAGS = ['--appendonly', 'yes', '--maxmemory-policy', 'noeviction', '--save', '']
/** Of a port that is free when we ask and taken when the server does. */
const TRIES = 3

const HELP = `No Redis was found and none could be installed. Do one of these, and run this again:
  • install Redis 6.2 or newer (Debian, Ubuntu: apt-get install redis-server; macOS: brew install redis)
  • start Docker
  • set REDIS_URL to a Redis that may be used, such as redis://127.0.0.1:6379`

async function startProgram(program) {
  const port = await freePort()
  const folder = mkdtempSync(join(tmpdir(), 'tollgate-redis-'))
  const start = [program, '--port', String(port), '--bind', '127.0.0.1', '--dir', folder, ...FLAGS]
  return keep({ start, folder, port, patienceMs: 15_000 })
}

async function startContainer() {
  const port = await freePort()
  const name = `tollgate-redis-${randomUUID()}`
  const start = ['docker', 'run', '--rm', '--name', name, '--publish', `127.0.0.1:${port}:6379`, 'redis:7-alpine', 'redis-server', ...FLAGS]
  // The first time, the image has to come over the network.
  return keep({ start, end: ['docker', 'rm', '--force', '--volumes', name], port, patienceMs: 180_000 })
}

async function start(way) {
  for (let tries = 1; ; tries++) {
    try {
      return await way()
    } catch (error) {
      stopIfAsked()
      if (tries === TRIES) throw error
    }
  }
}

/** A Redis to work with: the one that was given, or one that ends with us. @throws Failure, Interrupted */
export async function startRedis() {
  const given = process.env['REDIS_URL']
  if (given !== undefined && given !== '') return { url: given, stop: async () => {} }
  const program = serverProgram()
  if (program !== undefined) return start(() => startProgram(program))
  if (dockerWorks()) {
    status('starting Redis in Docker')
    return start(startContainer)
  }
  const installed = await install()
  if (installed === undefined) throw new Failure(HELP)
  return start(() => startProgram(installed))
}

/** The tests start servers of their own, to kill them; makes sure that they can. @throws Failure, Interrupted */
export async function needsRedisProgram() {
  if (serverProgram() !== undefined || dockerWorks()) return
  if ((await install()) !== undefined) return
  if ((process.env['REDIS_URL'] ?? '') === '') throw new Failure(HELP)
  status('tests that kill a Redis of their own will fail: only REDIS_URL was found, and no server program')
}

/** The tests of the bus start a NATS of their own. @throws Interrupted */
export async function needsNatsProgram() {
  if (natsProgram() !== undefined || (await installNats()) !== undefined) return
  status('tests of NATS will fail: there is no nats-server, and none could be installed')
}

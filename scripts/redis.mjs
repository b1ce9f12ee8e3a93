import { randomUUID } from 'node:crypto'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { throwIfInterrupted } from './child.mjs'
import { Failure, status } from './failure.mjs'
import { install, installNats } from './install-redis.mjs'
import { keep } from './keep.mjs'
import { freePort } from './port.mjs'
import { dockerWorks, natsProgram, serverProgram } from './redis-programs.mjs'

// Limits must not be forgotten: nothing is evicted, and writes survive a restart.
const FLAGS = ['--appendonly', 'yes', '--maxmemory-policy', 'noeviction', '--save', '']
/** A port that was free may be taken by the time the server binds it. */
const TRIES = 3

const HELP = `No Redis was found and none could be installed. Do one of these, and run this again:
  • install Redis 6.2 or newer (Debian, Ubuntu: apt-get install redis-server; macOS: brew install redis)
  • start Docker
  • set REDIS_URL to a Redis that may be used, such as redis://127.0.0.1:6379`

async function startProgram(program) {
  const port = await freePort()
  const folder = mkdtempSync(join(tmpdir(), 'tollgate-redis-'))
  const start = [program, '--port', String(port), '--bind', '127.0.0.1', '--dir', folder, ...FLAGS]
  return keep({ start, folder, port, timeoutMs: 15_000 })
}

async function startContainer() {
  const port = await freePort()
  const name = `tollgate-redis-${randomUUID()}`
  const start = ['docker', 'run', '--rm', '--name', name, '--publish', `127.0.0.1:${port}:6379`, 'redis:7-alpine', 'redis-server', ...FLAGS]
  // The first time, the image has to come over the network.
  return keep({ start, end: ['docker', 'rm', '--force', '--volumes', name], port, timeoutMs: 180_000 })
}

async function start(way) {
  for (let tries = 1; ; tries++) {
    try {
      return await way()
    } catch (error) {
      throwIfInterrupted()
      if (tries === TRIES) throw error
    }
  }
}

/** A Redis: the one of REDIS_URL, or one that ends with this process. @throws Failure, Interrupted */
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

/** Installs a Redis server where there is none: tests start servers of their own and kill them. @throws Failure, Interrupted */
export async function needsRedisProgram() {
  if (serverProgram() !== undefined || dockerWorks()) return
  if ((await install()) !== undefined) return
  if ((process.env['REDIS_URL'] ?? '') === '') throw new Failure(HELP)
  status('tests that kill a Redis of their own will fail: only REDIS_URL was found, and no server program')
}

/** Installs a NATS where there is none, for the tests of the bus. @throws Interrupted */
export async function needsNatsProgram() {
  if (natsProgram() !== undefined || (await installNats()) !== undefined) return
  status('tests of NATS will fail: there is no nats-server, and none could be installed')
}

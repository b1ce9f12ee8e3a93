import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { TollgateError } from '../model/errors.js'

const PORT = 6379
const START_MS = 15_000
const PING_MS = 500

/** Starts a program in a folder of its own, ends it when its own input ends (its parent has died, or says so), and removes the folder. */
const KEEPER = `
const { spawn } = require('node:child_process')
const { mkdtempSync, rmSync } = require('node:fs')
const folder = mkdtempSync(require('node:path').join(require('node:os').tmpdir(), 'tollgate-redis-'))
const [program, ...flags] = process.argv.slice(1)
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => {})
const child = spawn(program, flags, { cwd: folder, stdio: 'ignore' })
const end = () => { rmSync(folder, { recursive: true, force: true }); process.exit() }
child.on('error', end).on('exit', end)
process.stdin.on('end', () => child.kill()).resume()
`

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('PING\r\n'))
    socket.setTimeout(PING_MS)
    const done = (good: boolean) => {
      socket.destroy()
      resolve(good)
    }
    // One that wants a password answers too: its complaint comes later, with the address.
    socket.on('data', (data) => done(/^[+-]/.test(data.toString())))
    for (const event of ['error', 'timeout', 'close']) socket.on(event, () => done(false))
  })
}

export interface LocalRedis {
  readonly url: string
  /** How it was come by, for the log. */
  readonly how: string
  stop(): Promise<void>
}

async function stop(keeper: ChildProcess): Promise<void> {
  if (keeper.exitCode !== null) return
  const ended = new Promise((resolve) => keeper.once('exit', resolve))
  keeper.stdin?.end()
  await ended
}

/**
 * The Redis of a server without configuration: the one that answers at localhost, else one that is started for as long as this process lives.
 * @param port for tests
 * @throws REDIS_UNAVAILABLE where there is none and none can be started
 */
export async function findRedis(port: number = PORT): Promise<LocalRedis> {
  const url = `redis://127.0.0.1:${port}`
  if (await answers(port)) return { url, how: 'found at localhost', stop: async () => {} }
  const program = ['redis-server', 'valkey-server'].find((name) => spawnSync(name, ['--version'], { stdio: 'ignore' }).status === 0)
  if (program === undefined)
    throw new TollgateError(
      'REDIS_UNAVAILABLE',
      'no Redis answers at localhost:6379, and there is no redis-server to start: install Redis 6.2 or newer, or set REDIS_URL',
    )
  const flags = ['--port', String(port), '--bind', '127.0.0.1', '--appendonly', 'yes', '--maxmemory-policy', 'noeviction', '--save', '']
  const keeper = spawn(process.execPath, ['-e', KEEPER, program, ...flags], { stdio: ['pipe', 'ignore', 'ignore'], detached: true })
  const deadline = performance.now() + START_MS
  while (!(await answers(port))) {
    if (keeper.exitCode !== null || performance.now() > deadline) {
      await stop(keeper)
      throw new TollgateError('REDIS_UNAVAILABLE', `${program} did not start at port ${port}; set REDIS_URL to a Redis that runs`)
    }
    await sleep(30)
  }
  return { url, how: `started (${program}); its data goes when this server ends`, stop: () => stop(keeper) }
}

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { GenericContainer, type StartedTestContainer } from 'testcontainers'
import { freePort } from './free-port.js'

/** A real Redis of a test's own, with AOF and noeviction, that can be killed and brought back with its data. */
export interface RedisServer {
  readonly url: string
  /** Kills it without a chance to say goodbye, and starts it again on the same data. */
  restart(): Promise<void>
  /** Kills it without a chance to say goodbye. */
  kill(): Promise<void>
  /** Starts it again on the same data. */
  start(): Promise<void>
  /** Stops it in its tracks: connections stay, nothing is answered. */
  pause(): void
  resume(): void
  stop(): Promise<void>
}

const FLAGS = ['--appendonly', 'yes', '--appendfsync', 'always', '--maxmemory-policy', 'noeviction', '--save', '']

function binary(): string | undefined {
  return ['redis-server', 'valkey-server'].find((name) => spawnSync(name, ['--version']).status === 0)
}

async function untilReady(url: string): Promise<void> {
  const client = new Redis(url, { lazyConnect: true, retryStrategy: () => 20, maxRetriesPerRequest: null })
  client.on('error', () => {})
  await client.ping()
  client.disconnect()
}

async function startProcess(program: string): Promise<RedisServer> {
  const port = await freePort()
  const folder = await mkdtemp(join(tmpdir(), 'tollgate-redis-'))
  const url = `redis://127.0.0.1:${port}`
  let child: ChildProcess
  const start = async () => {
    child = spawn(program, ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder, ...FLAGS], { stdio: 'ignore' })
    await untilReady(url)
  }
  const kill = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  await start()
  return {
    url,
    restart: async () => {
      await kill()
      await sleep(100)
      await start()
    },
    kill,
    start,
    pause: () => void child.kill('SIGSTOP'),
    resume: () => void child.kill('SIGCONT'),
    stop: async () => {
      await kill()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

async function startContainer(): Promise<RedisServer> {
  const port = await freePort()
  const container: StartedTestContainer = await new GenericContainer('redis:7-alpine')
    .withExposedPorts({ container: 6379, host: port })
    .withCommand(['redis-server', ...FLAGS.map((flag) => (flag === '' ? '""' : flag))])
    .start()
  const url = `redis://127.0.0.1:${port}`
  const docker = (verb: string) => {
    spawnSync('docker', [verb, container.getId()])
  }
  return {
    url,
    kill: async () => docker('kill'),
    start: async () => {
      docker('start')
      await untilReady(url)
    },
    pause: () => docker('pause'),
    resume: () => docker('unpause'),
    restart: () => container.restart({ timeout: 0 }),
    stop: async () => {
      await container.stop()
    },
  }
}

export async function startRedis(): Promise<RedisServer> {
  const program = binary()
  return program === undefined ? startContainer() : startProcess(program)
}

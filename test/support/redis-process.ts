import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { freePort } from './free-port.js'

/** A real Redis for one test or benchmark, which may be killed and started again with its data. */
export interface RedisServer {
  readonly url: string
  /** By SIGKILL: connections break, and Redis has no time to write anything. */
  kill(): Promise<void>
  /** Starts it again on the same data. */
  start(): Promise<void>
  /** Kills it, and starts it again on the same data. */
  restart(): Promise<void>
  /** By SIGSTOP: connections stay, and nothing is answered. */
  pause(): void
  resume(): void
  /** Kills it and removes its data. */
  stop(): Promise<void>
}

/** The name of the Redis on the `PATH`; undefined where there is none. */
export function redisProgram(): string | undefined {
  return ['redis-server', 'valkey-server'].find((name) => spawnSync(name, ['--version']).status === 0)
}

export async function untilReady(url: string): Promise<void> {
  const client = new Redis(url, { lazyConnect: true, retryStrategy: () => 20, maxRetriesPerRequest: null })
  client.on('error', () => {})
  await client.ping()
  client.disconnect()
}

/** A program that runs as a server, and may be killed and started again. @param ready waits until the process answers */
export function serverProcess(program: string, args: readonly string[], ready: (child: ChildProcess) => Promise<unknown>) {
  let child: ChildProcess
  return {
    start: async (): Promise<void> => {
      child = spawn(program, [...args], { stdio: 'ignore' })
      await ready(child)
    },
    kill: async (): Promise<void> => {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGKILL')
      await once(child, 'exit')
    },
    pause: () => void child.kill('SIGSTOP'),
    resume: () => void child.kill('SIGCONT'),
  }
}

/** @param flags besides port, address and folder */
export async function startRedisProcess(program: string, flags: readonly string[]): Promise<RedisServer> {
  const port = await freePort()
  const folder = await mkdtemp(join(tmpdir(), 'tollgate-redis-'))
  const url = `redis://127.0.0.1:${port}`
  const server = serverProcess(program, ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder, ...flags], () => untilReady(url))
  await server.start()
  return {
    url,
    ...server,
    restart: async () => {
      await server.kill()
      await sleep(100)
      await server.start()
    },
    stop: async () => {
      await server.kill()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

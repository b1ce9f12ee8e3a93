import { spawnSync } from 'node:child_process'
import { GenericContainer, type StartedTestContainer } from 'testcontainers'
import { freePort } from './free-port.js'
import { type RedisServer, redisProgram, startRedisProcess, untilReady } from './redis-process.js'

export type { RedisServer } from './redis-process.js'

/** With AOF: what Redis has answered is there again after a kill. */
const FLAGS = ['--appendonly', 'yes', '--appendfsync', 'always', '--maxmemory-policy', 'noeviction', '--save', '']

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

/** A Redis for one test: the program on the `PATH`, or a container where there is none. */
export async function startRedis(): Promise<RedisServer> {
  const program = redisProgram()
  return program === undefined ? startContainer() : startRedisProcess(program, FLAGS)
}

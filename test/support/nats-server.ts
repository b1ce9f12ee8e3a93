import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from './free-port.js'

/** A real NATS for one test: it may start late, be killed, and start again. */
export interface NatsServer {
  readonly url: string
  start(): Promise<void>
  kill(): Promise<void>
}

// Debian installs nats-server in /usr/sbin, which is on the PATH of root only.
const PATH = `${process.env['PATH']}:/usr/local/sbin:/usr/sbin:/sbin`

function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    const end = (good: boolean) => {
      socket.destroy()
      resolve(good)
    }
    socket.on('data', () => end(true))
    socket.on('error', () => end(false))
  })
}

export async function newNats(): Promise<NatsServer> {
  const port = await freePort()
  let child: ChildProcess | undefined
  return {
    url: `nats://127.0.0.1:${port}`,
    start: async () => {
      const started = spawn('nats-server', ['-a', '127.0.0.1', '-p', String(port)], { stdio: 'ignore', env: { ...process.env, PATH } })
      child = started
      started.on('error', () => {})
      while (!(await isListening(port))) {
        if (started.exitCode !== null || started.pid === undefined) throw new Error('nats-server did not start: apt-get install nats-server')
        await sleep(20)
      }
    },
    kill: async () => {
      if (child === undefined) return
      child.kill('SIGKILL')
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
      child = undefined
    },
  }
}

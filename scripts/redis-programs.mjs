import { spawnSync } from 'node:child_process'

/** Whether a command exists and exits with 0. */
export function works(command, ...args) {
  return spawnSync(command, args, { stdio: 'ignore', timeout: 15_000 }).status === 0
}

/** The server on the PATH, if any. */
export function serverProgram() {
  return ['redis-server', 'valkey-server'].find((name) => works(name, '--version'))
}

/** The NATS on the PATH, or in /usr/sbin, where Debian puts it. */
export function natsProgram() {
  return ['nats-server', '/usr/sbin/nats-server'].find((name) => works(name, '--version'))
}

/** Whether a Docker engine answers; the command alone is not enough. */
export function dockerWorks() {
  return works('docker', 'info')
}

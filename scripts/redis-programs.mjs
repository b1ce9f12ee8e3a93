import { spawnSync } from 'node:child_process'

/** Whether a command exists and ends well. */
export function works(command, ...args) {
  return spawnSync(command, args, { stdio: 'ignore', timeout: 15_000 }).status === 0
}

/** The server on the PATH, if any. */
export function serverProgram() {
  return ['redis-server', 'valkey-server'].find((name) => works(name, '--version'))
}

/** The NATS on the PATH, or where only root looks, as on Debian. */
export function natsProgram() {
  return ['nats-server', '/usr/sbin/nats-server'].find((name) => works(name, '--version'))
}

/** Whether there is not only a docker command but an engine that answers. */
export function dockerWorks() {
  return works('docker', 'info')
}

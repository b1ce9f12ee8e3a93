import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { freePort } from '../../test/support/free-port.js'

// Debian installs nginx in /usr/sbin, which is on the PATH of root only.
const PROGRAMS = ['nginx', '/usr/sbin/nginx', '/usr/local/sbin/nginx']
const KEEPER = fileURLToPath(new URL('../../../scripts/keeper.mjs', import.meta.url))
const START_TIMEOUT_MS = 10_000
/** A port that was free may be taken by the time that nginx binds it. */
const TRIES = 3

/** A request in the log of nginx. */
export interface Logged {
  readonly atMs: number
  readonly status: number
  readonly path: string
}

/** The nginx of this machine, if any. */
export function nginxProgram(): { path: string; version: string } | undefined {
  for (const path of PROGRAMS) {
    const result = spawnSync(path, ['-v'], { encoding: 'utf8' })
    if (result.status === 0) return { path, version: result.stderr.trim().replace(/^.*: /, '') }
  }
  return undefined
}

/**
 * One zone limits every request but those under /warm-up. Its key is a constant: nginx does not
 * count requests with an empty key. The answer comes from the content phase (empty_gif): a
 * `return` would answer before limit_req is checked.
 */
function config(port: number, perSecond: number, burst: number): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `  ${name}_temp_path temporary;`)
  return `worker_processes 1;
pid nginx.pid;
error_log error.log;
events { worker_connections 1024; }
http {
${temporary.join('\n')}
  log_format bench '$msec $status $uri';
  access_log access.log bench;
  keepalive_timeout 600s;
  keepalive_requests 1000000;
  limit_req_zone account zone=account:1m rate=${perSecond}r/s;
  limit_req_status 429;
  server {
    listen 127.0.0.1:${port};
    location / {
      limit_req zone=account burst=${burst} nodelay;
      empty_gif;
    }
    location /warm-up { empty_gif; }
  }
}
`
}

async function answersWarmUp(port: number, keeper: ChildProcess): Promise<boolean> {
  const deadline = performance.now() + START_TIMEOUT_MS
  while (keeper.exitCode === null && performance.now() < deadline) {
    const response = await fetch(`http://127.0.0.1:${port}/warm-up`).catch(() => undefined)
    await response?.arrayBuffer()
    if (response?.ok === true) return true
    await sleep(30)
  }
  return false
}

/** An nginx with limit_req at a given rate. Its keeper ends it when this process ends, however that is. */
export class Nginx {
  private constructor(
    readonly port: number,
    private readonly folder: string,
    private readonly keeper: ChildProcess,
  ) {}

  /** @throws Error with the standard error of nginx */
  static async start(program: string, perSecond: number, burst: number): Promise<Nginx> {
    for (let tries = 1; ; tries++) {
      const port = await freePort()
      const folder = await mkdtemp(join(tmpdir(), 'tollgate-nginx-'))
      await mkdir(join(folder, 'temporary'))
      await writeFile(join(folder, 'nginx.conf'), config(port, perSecond, burst))
      const start = [program, '-p', folder, '-c', 'nginx.conf', '-g', 'daemon off;']
      const keeper = spawn(process.execPath, [KEEPER, JSON.stringify({ start, folder })], { stdio: ['pipe', 'ignore', 'pipe'], detached: true })
      keeper.stdin?.on('error', () => {})
      let errors = ''
      keeper.stderr?.setEncoding('utf8').on('data', (text: string) => {
        errors += text
      })
      const nginx = new Nginx(port, folder, keeper)
      if (await answersWarmUp(port, keeper)) return nginx
      await nginx.stop()
      if (tries === TRIES) throw new Error(`nginx did not start: ${errors.trim()}`)
    }
  }

  /** The requests to a path, in order. */
  async log(path: string): Promise<Logged[]> {
    const lines = (await readFile(join(this.folder, 'access.log'), 'utf8')).split('\n').filter((line) => line !== '')
    const rows = lines.map((line) => {
      const [seconds, status, uri = ''] = line.split(' ')
      return { atMs: Number(seconds) * 1000, status: Number(status), path: uri }
    })
    return rows.filter((row) => row.path === path)
  }

  /** For each refused request to a path: by how many requests it exceeded the rate, as nginx logs it. */
  async excesses(path: string): Promise<number[]> {
    const lines = (await readFile(join(this.folder, 'error.log'), 'utf8')).split('\n')
    return lines.flatMap((line) => {
      const [, excess, uri] = /limiting requests, excess: ([\d.]+) .* request: "\w+ (\S+) /.exec(line) ?? []
      return excess !== undefined && uri === path ? [Number(excess)] : []
    })
  }

  async stop(): Promise<void> {
    if (this.keeper.exitCode !== null) return
    const exited = once(this.keeper, 'exit')
    this.keeper.stdin?.end()
    await exited
  }
}

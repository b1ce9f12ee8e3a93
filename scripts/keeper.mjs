// Runs a server until its standard input ends, then stops it and removes what it leaves. See keep.mjs.
import { spawn, spawnSync } from 'node:child_process'
import { rmSync } from 'node:fs'

const { start, end, folder } = JSON.parse(process.argv[2])
const [command, ...args] = start
/** How long the server may take to close its files before it is killed. */
const STOP_TIMEOUT_MS = 5000

const server = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
let output = ''
for (const stream of [server.stdout, server.stderr]) {
  stream.setEncoding('utf8').on('data', (text) => {
    output = (output + text).slice(-2000)
  })
}

let stopping = false
function stop() {
  if (stopping) return
  stopping = true
  if (end !== undefined) spawnSync(end[0], end.slice(1), { stdio: 'ignore' })
  server.kill('SIGTERM')
  setTimeout(() => server.kill('SIGKILL'), STOP_TIMEOUT_MS).unref()
}

function finish(why) {
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
  // The process that reads this may have ended.
  process.stderr.on('error', () => {})
  if (!stopping) process.stderr.write(why)
  process.exitCode = stopping ? 0 : 1
  process.stdin.destroy()
}

server.on('error', (error) => finish(`${error.message}\n`))
server.on('close', () => finish(output))
process.stdin.on('end', stop).on('error', stop).resume()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, stop)

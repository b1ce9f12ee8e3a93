import { spawn } from 'node:child_process'
import { constants } from 'node:os'
import { Failure, Interrupted } from './failure.mjs'

/** A terminal sends Ctrl-C to child processes itself; so the signal is passed on only after this time. */
const PASS_ON_MS = 300
/** How long a child may take to clean up before it is killed. */
const STOP_TIMEOUT_MS = 15_000

let stoppedBy
let current

function passOn() {
  const child = current
  if (child === undefined) return
  setTimeout(() => child.kill(stoppedBy), PASS_ON_MS).unref()
  setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS).unref()
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    if (stoppedBy !== undefined) return
    stoppedBy = signal
    passOn()
  })
}

/** Whether a signal has ended this command. */
export function interrupted() {
  return stoppedBy !== undefined
}

/** To be called between steps. @throws Interrupted after a signal */
export function throwIfInterrupted() {
  if (stoppedBy !== undefined) throw new Interrupted(128 + constants.signals[stoppedBy])
}

function ended(child) {
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => resolve(code ?? 128 + constants.signals[signal]))
  })
}

async function follow(child) {
  current = child
  if (stoppedBy !== undefined) passOn()
  try {
    return await ended(child)
  } finally {
    current = undefined
  }
}

/** Runs a program in this terminal and returns its exit code; with `ipc` the program sees when this process dies. @throws Interrupted */
export async function runChild(command, args, { env = process.env, ipc = false } = {}) {
  throwIfInterrupted()
  const code = await follow(spawn(command, args, { stdio: ['inherit', 'inherit', 'inherit', ...(ipc ? ['ipc'] : [])], env }))
  if (stoppedBy !== undefined) throw new Interrupted(code === 0 ? 128 + constants.signals[stoppedBy] : code)
  return code
}

/** Runs a program without showing its output. @throws Failure with the output, Interrupted */
export async function runQuietly(command, args, env = process.env) {
  throwIfInterrupted()
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env, shell: process.platform === 'win32' })
  let output = ''
  const keep = (text) => {
    output += text
  }
  child.stdout.setEncoding('utf8').on('data', keep)
  child.stderr.setEncoding('utf8').on('data', keep)
  const code = await follow(child)
  throwIfInterrupted()
  if (code !== 0) throw new Failure(`${output.trimEnd()}\n\`${[command, ...args].join(' ')}\` failed with exit code ${code}`)
}

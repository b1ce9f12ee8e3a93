import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { interrupted, throwIfInterrupted } from './child.mjs'
import { Failure } from './failure.mjs'
import { root } from './files.mjs'
import { answersWithin } from './port.mjs'

/**
 * Starts a server under a keeper: a process that runs until its standard input ends. However
 * this process ends, also by SIGKILL, the system closes that input; then the keeper stops the
 * server and removes its folder. The keeper is detached: a Ctrl-C in the terminal must not end
 * the server while a program still removes its keys.
 */
export async function keep({ start, end, folder, port, timeoutMs }) {
  const keeper = spawn(process.execPath, [join(root, 'scripts', 'keeper.mjs'), JSON.stringify({ start, end, folder })], {
    stdio: ['pipe', 'ignore', 'pipe'],
    detached: true,
  })
  keeper.stdin.on('error', () => {})
  let output = ''
  keeper.stderr.setEncoding('utf8').on('data', (text) => {
    output = (output + text).slice(-2000)
  })
  const exited = once(keeper, 'exit')
  const stop = async () => {
    keeper.stdin.end()
    await exited
  }
  const ready = await answersWithin(timeoutMs, port, () => keeper.exitCode !== null || interrupted())
  if (!ready) {
    await stop()
    throwIfInterrupted()
    throw new Failure(`Redis did not start: ${start.join(' ')}\n${output.trimEnd()}`)
  }
  return { url: `redis://127.0.0.1:${port}`, stop }
}

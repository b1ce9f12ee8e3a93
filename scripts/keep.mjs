import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { stopIfAsked, wasAsked } from './child.mjs'
import { Failure } from './failure.mjs'
import { root } from './files.mjs'
import { answersWithin } from './port.mjs'

/**
 * Starts a server under a keeper: a process of its own that lives as long as we hold the
 * other end of its input. However we end, also by SIGKILL, the system closes that end and
 * the keeper stops the server and removes its folder. It is detached, since a Ctrl-C in
 * the terminal must not take the server from under a program that still cleans up.
 */
export async function keep({ start, end, folder, port, patienceMs }) {
  const keeper = spawn(process.execPath, [join(root, 'scripts', 'keeper.mjs'), JSON.stringify({ start, end, folder })], {
    stdio: ['pipe', 'ignore', 'pipe'],
    detached: true,
  })
  keeper.stdin.on('error', () => {})
  let said = ''
  keeper.stderr.setEncoding('utf8').on('data', (text) => {
    said = (said + text).slice(-2000)
  })
  const exited = once(keeper, 'exit')
  const stop = async () => {
    keeper.stdin.end()
    await exited
  }
  const ready = await answersWithin(patienceMs, port, () => keeper.exitCode !== null || wasAsked())
  if (!ready) {
    await stop()
    stopIfAsked()
    throw new Failure(`Redis did not start: ${start.join(' ')}\n${said.trimEnd()}`)
  }
  return { url: `redis://127.0.0.1:${port}`, stop }
}

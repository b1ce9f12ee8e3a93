import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/** A port of 127.0.0.1 that is free at this moment. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

function ping(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('PING\r\n'))
    socket.setTimeout(500)
    const answer = (good) => {
      socket.destroy()
      resolve(good)
    }
    socket.on('data', (data) => answer(data.toString().startsWith('+PONG')))
    for (const event of ['error', 'timeout', 'close']) socket.on(event, () => answer(false))
  })
}

/** Waits until a Redis answers; false where it does not in time, or where `gone` returns true. */
export async function answersWithin(timeoutMs, port, gone) {
  const deadline = performance.now() + timeoutMs
  while (!gone() && performance.now() < deadline) {
    if (await ping(port)) return true
    await sleep(30)
  }
  return false
}

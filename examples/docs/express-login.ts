import type { AddressInfo } from 'node:net'
import express from 'express'
import { Tollgate } from '../../src/index.js'

const tollgate = await Tollgate.open()
// Five tries a minute for an account, and fifty for an address: both must have room.
const perAccount = tollgate.limiter({ name: 'login-account', requests: 5, per: 'minute', algorithm: 'sliding_window' })
const perAddress = tollgate.limiter({ name: 'login-address', requests: 50, per: 'minute' })
const login = tollgate.all([perAccount, perAddress])

const app = express()
app.post('/login/:account', async (request, response) => {
  const { allowed, retryAfterMs } = await login.check([request.params.account, request.ip ?? 'unknown'])
  if (!allowed) {
    response.set('retry-after', String(Math.ceil((retryAfterMs ?? 60_000) / 1000))).sendStatus(429)
    return
  }
  response.sendStatus(204)
})

const server = app.listen(0)
const url = `http://localhost:${(server.address() as AddressInfo).port}/login`
for (let n = 1; n <= 6; n++) {
  const { status } = await fetch(`${url}/ann`, { method: 'POST' })
  if (n >= 5) console.log('ann', status)
}
console.log('bob', (await fetch(`${url}/bob`, { method: 'POST' })).status)
server.closeAllConnections()
server.close()
await tollgate.close()

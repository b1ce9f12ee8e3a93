import type { AddressInfo } from 'node:net'
import express from 'express'
import { defaultRules, expressLimit, Tollgate } from '../../src/index.js'

const tollgate = await Tollgate.open({ rules: defaultRules({ expensive: ['/search*'] }) })
const app = express()
app.use(expressLimit(tollgate, { identify: (request: express.Request) => ({ user: request.get('x-user') }) }))
app.get('/search', (_request, response) => void response.send('found'))

const server = app.listen(0)
const url = `http://localhost:${(server.address() as AddressInfo).port}/search`
for (let n = 1; n <= 11; n++) {
  const response = await fetch(url, { headers: { 'x-user': 'ann' } })
  if (n === 1 || n === 11) console.log(response.status, response.headers.get('x-ratelimit-remaining'))
  await response.text()
}
server.closeAllConnections()
server.close()
await tollgate.close()

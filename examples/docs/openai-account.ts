import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { httpAgent, Tollgate } from '../../src/index.js'

// Stands for api.openai.com.
const openai = createServer((_request, response) => {
  const answer = { choices: [{ message: { content: 'hello' } }], usage: { prompt_tokens: 20, completion_tokens: 5, total_tokens: 25 } }
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
}).listen(0)
const baseUrl = `http://localhost:${(openai.address() as AddressInfo).port}`

const tollgate = await Tollgate.open({
  rules: [
    {
      name: 'openai-account',
      scope: 'agent',
      match: { agents: ['openai'] },
      limits: [{ requests: 500, per: 'minute', burst: 50 }, { tokens: 200_000, per: 'minute' }, { concurrency: 20 }],
    },
  ],
})
const worker = tollgate.worker(httpAgent({ openai: { baseUrl } }))

const messages = [{ role: 'user', content: 'say hello' }]
const calls = Array.from({ length: 30 }, () => ({ agent: 'openai', payload: { model: 'gpt-4o-mini', messages, max_tokens: 50 } }))
const tickets = await tollgate.enqueueMany(calls)
console.log(tickets.filter(({ decision }) => decision?.outcome === 'run').length, 'may start at once')
for (const ticket of tickets) await ticket.result()
const [requests] = await tollgate.meters.get({ rule: 'openai-account', value: 'openai' })
console.log('all done;', requests?.limit, 'of', requests?.amount)

await worker.close()
await tollgate.close()
openai.close()

import { Tollgate, UpstreamLimited } from '../../src/index.js'

const tollgate = await Tollgate.open({
  rules: [{ name: 'account', scope: 'agent', limits: [{ requests: 500, per: 'minute', burst: 50 }] }],
})

// An agent that refuses its first call.
let asked = 0
tollgate.worker(async (_call, { attempt }) => {
  asked++
  if (asked === 1) throw new UpstreamLimited({ retryAfterMs: 200 })
  return `asked ${asked} times, attempt ${attempt}`
})
const ticket = await tollgate.enqueue({ agent: 'openai', model: 'gpt-4o' })
console.log(await ticket.result())

// Another client of the account was refused: tell the fleet.
const off = tollgate.capacity.on('change', ({ agent, model, kind, state }) => console.log(agent, model, kind, state))
await tollgate.capacity.announce({ agent: 'openai', model: 'o3', retryAfterMs: 2000 })
const { state, factor, blockedMs } = await tollgate.capacity.get({ agent: 'openai', model: 'o3' })
console.log(state, factor, blockedMs > 0)
const known = await tollgate.stats.upstream()
for (const { rule, limit, amount } of known[0]?.configured ?? []) console.log(rule, limit, amount)
off()
await tollgate.close()

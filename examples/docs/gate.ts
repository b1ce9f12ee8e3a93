import { Tollgate } from '../../src/index.js'

const tollgate = await Tollgate.open({
  rules: [
    { name: 'per-user', scope: 'user', limits: [{ tokens: 1000, per: 'day', algorithm: 'fixed_window' }] },
    { name: 'slots', scope: 'agent', limits: [{ concurrency: 1, lease: '30s' }] },
  ],
})
const call = { agent: 'openai', user: 'ada', cost: { tokens: 700 } }

// Asks and charges nothing.
console.log((await tollgate.gate.peek(call)).allowed)

// Asks and charges all limits, or none of them.
const grant = await tollgate.gate.admit(call)
const refused = await tollgate.gate.admit(call)
console.log(grant.allowed, refused.allowed, refused.limitExceeded)

// The call ended: what it really used replaces the estimate, and its slot is free.
await grant.settle({ inputTokens: 300, outputTokens: 100 })

// Waits in this process for room, five seconds at most.
const waited = await tollgate.gate.acquire({ ...call, cost: { tokens: 500 } }, { signal: AbortSignal.timeout(5000) })
console.log(await tollgate.gate.tryAcquire(call))
await waited.release() // it was not made: everything comes back

// Charges what has happened already, room or not: 100 tokens more than the limit are debt.
await tollgate.gate.record({ agent: 'openai', user: 'ada', cost: { tokens: 700 } })
const after = await tollgate.gate.peek({ ...call, cost: { tokens: 0 } })
for (const { limit, used, capacity } of after.usage) console.log(limit, used, capacity)
await tollgate.close()

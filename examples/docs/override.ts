import { Tollgate } from '../../src/index.js'

const tollgate = await Tollgate.open({
  rules: [{ name: 'per-user', scope: 'user', limits: [{ requests: 1, per: 'day', algorithm: 'fixed_window' }] }],
})
const call = { agent: 'openai', user: 'alice' }
await tollgate.gate.admit(call)
console.log((await tollgate.gate.admit(call)).allowed)

const id = await tollgate.overrides.grant({
  for: { user: 'alice' }, // or a team, org, ip (an address or a CIDR range), agent or rule: exactly one
  rules: ['per-*'], // names or globs; default: every rule that counts by the subject
  allow: 'unlimited', // or { times: 2 }, or { limits: [{ requests: 500, per: 'minute' }] }
  reason: 'incident', // emergency_access, incident, maintenance, testing, customer_request, other
  text: 'catches up after the outage',
  by: 'ann',
  forMs: 3_600_000, // or until, a date: within longestOverrideMs, by default 7 days
})
console.log((await tollgate.gate.admit(call)).allowed)
await tollgate.overrides.revoke(id, { by: 'ann' })
console.log((await tollgate.gate.admit(call)).allowed)

await tollgate.pause({ agent: 'openai' }, { by: 'ann', reason: 'the key is being changed' })
const paused = await tollgate.gate.admit({ agent: 'openai', user: 'bob' })
console.log(paused.allowed, paused.decision.outcome === 'reject' && paused.decision.reason)
await tollgate.resume({ agent: 'openai' }, { by: 'ann' })

const entries = await tollgate.overrides.audit({ since: '2020-01-01', by: 'ann', limit: 10 })
for (const { by, what } of entries) console.log(by, what)
await tollgate.close()

import { Tollgate } from '../../src/index.js'

const tollgate = await Tollgate.open({
  rules: [
    { name: 'team-budget', scope: 'team', strategy: 'hard', limits: [{ usd: 1, per: 'month', algorithm: 'fixed_window', timezone: 'UTC' }] },
    { name: 'research', scope: 'team', match: { teams: ['research'] }, strategy: 'hard', limits: [{ usd: 0.4, per: 'day', algorithm: 'fixed_window' }] },
  ],
  prices: { 'gpt-4o': { input: 2.5, output: 10 } },
})

// 40,000 tokens in and 20,000 out: 0.10 + 0.20 dollars.
const call = { agent: 'openai', model: 'gpt-4o', team: 'research', cost: { inputTokens: 40_000, outputTokens: 20_000 } }
const grant = await tollgate.gate.admit(call)
await grant.settle({ inputTokens: 40_000, outputTokens: 12_000 }) // 0.22 dollars after all

const second = await tollgate.gate.admit(call)
console.log(second.allowed, second.limitExceeded)
for (const { rule, limit, used, amount } of second.usage) console.log(rule, limit, used.toFixed(2), 'of', amount)

// One more day as an exception, noted in the audit.
await tollgate.overrides.grant({ for: { team: 'research' }, rules: ['research'], allow: { times: 2 }, forMs: 86_400_000, reason: 'other', by: 'ann' })
console.log((await tollgate.gate.admit(call)).allowed)
await tollgate.close()

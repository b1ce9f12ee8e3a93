import { Tollgate } from '../../src/index.js'

const tollgate = await Tollgate.open({
  rules: [{ name: 'account', scope: 'agent', strategy: 'custom:patient', limits: [{ requests: 1, per: 'minute' }] }],
  strategies: {
    // Calls of acme wait in line. Others wait 5 s at most, and are refused where it would take longer.
    patient: ({ retryAfterMs }, call) => {
      const soon = retryAfterMs !== null && retryAfterMs < 5_000
      return soon || call.org === 'acme' ? { outcome: 'wait' } : { outcome: 'reject', retryAfterMs }
    },
  },
})

const orgs = ['globex', 'globex', 'acme']
const tickets = await tollgate.enqueueMany(orgs.map((org) => ({ agent: 'openai', org })))
for (const [index, { decision, error }] of tickets.entries()) console.log(orgs[index], decision?.outcome, error?.code ?? 'accepted')

// No worker runs here: what stands in the queue is taken back.
for (const { id, error } of tickets) if (error === undefined) await tollgate.cancel(id)
await tollgate.close()

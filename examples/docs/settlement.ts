import { Tollgate } from '../../src/index.js'

const tollgate = await Tollgate.open({
  rules: [{ name: 'account', scope: 'agent', limits: [{ tokens: 10_000, per: 'day', algorithm: 'fixed_window' }] }],
})

const worker = tollgate.worker(async (_call, context) => {
  // A stream reports its total so far. What exceeds the estimate of 1,000 tokens is charged at once.
  await context.settlePart({ inputTokens: 900, outputTokens: 300 })
  // The usage in the result is the final cost: 1,400 tokens.
  return { output: 'a long answer', usage: { inputTokens: 900, outputTokens: 500 } }
})

const ticket = await tollgate.enqueue({ agent: 'openai', cost: { tokens: 1000 } })
await ticket.result()
await worker.close() // settles what has ended
const { remaining } = await tollgate.gate.peek({ agent: 'openai', cost: { tokens: 0 } })
const { open, settled } = await tollgate.stats.ledger()
console.log({ remaining, open, settled })
await tollgate.close()

import { Tollgate } from '../../src/index.js'

// REDIS_URL says where Redis is. The provider allows 2 requests a second, one at a time.
const tollgate = await Tollgate.open({
  rules: [{ name: 'account', scope: 'agent', limits: [{ requests: 2, per: 'second', burst: 1 }] }],
})

// A worker runs the calls. It can live in the app, as here, or in processes of its own.
tollgate.worker(async (call, { signal }) => {
  signal.throwIfAborted() // hand it on to fetch: it aborts when the call is cancelled
  return `hello, ${call.payload}`
})

// The app enqueues calls and gets a decision for each at once.
const calls = ['Ada', 'Grace', 'Edsger'].map((name) => ({ agent: 'greeter', user: name, payload: name }))
const tickets = await tollgate.enqueueMany(calls)

// This call would rather be refused than wait.
const refused = tollgate.enqueue({ agent: 'greeter', payload: 'Alan', strategy: 'retry_after' })
await refused.catch((error) => console.log(error.code, error.retryAfterMs > 0))

for (const ticket of tickets) console.log(ticket.decision?.outcome, await ticket.result())
await tollgate.close()

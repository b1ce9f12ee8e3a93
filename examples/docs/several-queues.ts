import { Tollgate } from '../../src/index.js'

// Two queues of one namespace: they share rules, meters and lines.
const rules = [{ name: 'account', scope: 'agent', limits: [{ requests: 4, per: 'minute', burst: 2 }] }]
const chat = await Tollgate.open({ queue: 'chat', rules })
const embeddings = await Tollgate.open({ queue: 'embeddings' })
const workers = [chat, embeddings].map((tollgate) => tollgate.worker(async () => ({ usage: { requests: 1 } })))

await (await chat.enqueue({ agent: 'openai' })).result()
await (await embeddings.enqueue({ agent: 'openai' })).result()
const third = await embeddings.enqueue({ agent: 'openai', id: 'third' })
console.log(third.decision?.outcome)

// A pause of the agent, a block after a 429 and an override concern both queues.
await chat.pause({ agent: 'openai' }, { reason: 'maintenance' })
console.log((await embeddings.explain('third')).state, (await embeddings.gate.admit({ agent: 'openai' })).allowed)

await chat.resume({ agent: 'openai' })
await embeddings.cancel('third')
for (const worker of workers) await worker.close()
await embeddings.close()
await chat.close()

import { type AgentAnswer, httpAgent, Tollgate } from '../../src/index.js'
import type { WorkerEvent, WorkerSettings } from './worker-events.js'

// The worker of the demo: what an app's own worker process looks like, plus reports on what it does.
const settings = JSON.parse(process.argv[2] ?? '{}') as WorkerSettings

function report(event: WorkerEvent): void {
  if (process.connected) process.send?.(event)
}

// The first request of a process loads Node's HTTP client, which takes longer than any later one.
await Promise.all(Object.values(settings.agents).map(({ baseUrl }) => fetch(`${baseUrl}/stats`).then((response) => response.text())))

const tollgate = await Tollgate.open({ redis: settings.redis, namespace: settings.namespace, queue: settings.queue })
const callAgent = httpAgent(settings.agents)
const worker = tollgate.worker(
  (call, context) => {
    report({ kind: 'started', id: context.id, atMs: context.decision.atMs })
    return callAgent(call, context)
  },
  { concurrency: settings.concurrency },
)
worker.bull.on('active', () => report({ kind: 'pickedUp' }))
worker.bull.on('completed', (job, answer: AgentAnswer) => {
  const { inputTokens = 0, outputTokens = 0 } = answer.usage ?? {}
  report({ kind: 'finished', id: job.id as string, tokens: inputTokens + outputTokens })
})
worker.bull.on('failed', (job, error) => report({ kind: 'failed', id: job?.id ?? '', reason: error.message }))

// Whoever forked us decides when we end, also by going away. A Ctrl-C in the terminal reaches both.
process.on('SIGINT', () => {})
process.once('disconnect', () => {
  // Should Redis be gone already, its connections would wait for it forever.
  setTimeout(() => process.exit(1), 4000).unref()
  void tollgate.close()
})
await worker.bull.waitUntilReady()
report({ kind: 'ready' })

import { type AgentAnswer, httpAgent, Tollgate } from '../../src/index.js'
import type { WorkerEvent, WorkerSettings } from './worker-events.js'

// The worker of the demo: a worker process as an application has it, plus reports of its calls.
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

// The parent ends this process by closing the IPC channel, also by dying. Ctrl-C in the terminal reaches both, so it is ignored here.
process.on('SIGINT', () => {})
process.once('disconnect', () => {
  // Where Redis is gone, close() would wait for it for ever.
  setTimeout(() => process.exit(1), 4000).unref()
  void tollgate.close()
})
await worker.bull.waitUntilReady()
report({ kind: 'ready' })

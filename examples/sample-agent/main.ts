import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { Agent } from './agent.js'
import { type AgentOptions, readAgentOptions } from './options.js'
import { agentServer } from './server.js'

/** The message to the parent process when the agent listens. */
export interface AgentReady {
  readonly url: string
}

// An OpenAI-compatible agent with limits of its own, to try a throttler on:
// node dist/examples/sample-agent/main.js --requests-per-second 20 --tokens-per-minute 200000
async function start(options: AgentOptions): Promise<void> {
  const server = agentServer(new Agent(options))
  server.listen(options.port, options.host)
  await once(server, 'listening')
  const url = `http://${options.host}:${(server.address() as AddressInfo).port}`
  const stop = () => {
    server.close()
    server.closeAllConnections()
  }
  if (process.send === undefined) {
    console.log(`sample agent at ${url}`)
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, stop)
    return
  }
  // Forked: the parent ends this process by closing the IPC channel, also by dying. Ctrl-C in the terminal reaches both, so it is ignored here.
  process.on('SIGINT', () => {})
  process.once('disconnect', stop)
  process.send({ url } satisfies AgentReady)
}

try {
  await start(readAgentOptions(process.argv.slice(2)))
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 1
}

import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { onTestFinished } from 'vitest'
import { Agent } from '../../examples/sample-agent/agent.js'
import { type AgentOptions, readAgentOptions } from '../../examples/sample-agent/options.js'
import { agentServer } from '../../examples/sample-agent/server.js'

/** The sample agent in the process of the test; by default without limits that matter, and without latency. */
export async function startSampleAgent(options: Partial<AgentOptions> = {}): Promise<{ url: string; agent: Agent }> {
  const roomy = { requestsPerSecond: 1e6, requestBurst: 1e6, tokensPerMinute: 1e9, tokenBurst: 1e9, latencyMs: 0, jitterMs: 0 }
  const agent = new Agent({ ...readAgentOptions([]), ...roomy, ...options })
  const server = agentServer(agent).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(async () => {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, agent }
}

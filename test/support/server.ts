import { pino } from 'pino'
import { onTestFinished } from 'vitest'
import { type Pages, Server } from '../../src/http/server.js'
import { type ServerSettings, serverSettings } from '../../src/http/server-settings.js'
import type { AgentSpec, Tollgate, TollgateOptions } from '../../src/index.js'
import type { Namespace } from './namespace.js'

export interface TestServer {
  readonly namespace: Namespace
  readonly url: string
  readonly tollgate: Tollgate
  readonly server: Server
  /** Everything that the server logged. */
  readonly logged: string[]
  /** Sends JSON, and reads it. */
  send(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<{ status: number; headers: Headers; json: unknown }>
}

export interface TestServerOptions {
  readonly settings?: Partial<ServerSettings>
  readonly agents?: Readonly<Record<string, AgentSpec>>
  readonly open?: TollgateOptions
  readonly environment?: NodeJS.ProcessEnv
  readonly pages?: Pages
}

/** A server of one test, over a real Redis; closed when the test has finished. */
export async function startServer(
  namespace: Namespace,
  { settings = {}, agents = {}, open = {}, environment = {}, pages }: TestServerOptions = {},
): Promise<TestServer> {
  const logged: string[] = []
  const log = pino({ level: 'trace' }, { write: (line: string) => void logged.push(line) })
  const tollgate = await namespace.open({ logger: log, ...open })
  const server = new Server({
    tollgate,
    settings: serverSettings.parse({ port: 0, ...settings }),
    log,
    version: '0.0.0',
    agents,
    environment,
    pages,
  })
  const url = await server.start()
  let closed = false
  const close = async () => {
    if (!closed) await server.close()
    closed = true
  }
  onTestFinished(close)
  return {
    namespace,
    url,
    tollgate,
    server,
    logged,
    async send(method, path, body, headers = {}) {
      const json = body === undefined ? {} : { 'content-type': 'application/json' }
      const response = await fetch(url + path, { method, headers: { ...json, ...headers }, ...(body === undefined ? {} : { body: JSON.stringify(body) }) })
      const text = await response.text()
      return {
        status: response.status,
        headers: response.headers,
        json: response.headers.get('content-type')?.includes('json') === true ? JSON.parse(text) : undefined,
      }
    },
  }
}

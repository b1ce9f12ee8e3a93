import { Queue } from 'bullmq'
import type { FastifyInstance } from 'fastify'
import type { PageParts } from '../http/server.js'
import { problemOf, tollgateError } from '../middleware/problem.js'
import { TollgateError } from '../model/errors.js'
import { connect } from '../redis/connection.js'
import { logConnection } from '../telemetry/log.js'
import type { Figures } from './figures.js'

const PATH = '/queues'
/** The board styles itself in its HTML; its fonts come from elsewhere, and are left out. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; frame-ancestors 'none'; base-uri 'self'; form-action 'self'"
const ELSEWHERE = /<link[^>]+href="https?:[^>]+>/g

/** The board, where its packages are installed: they are optional, since the rest of Tollgate needs none of them. */
async function loadBoard() {
  try {
    const [{ createBullBoard }, { FastifyAdapter }, { WaitingQueue }] = await Promise.all([
      import('@bull-board/api'),
      import('@bull-board/fastify'),
      import('./waiting-queue.js'),
    ])
    return { createBullBoard, FastifyAdapter, WaitingQueue }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_MODULE_NOT_FOUND') return undefined
    throw error
  }
}

/** Lets in to the board whom the pages let in, and leaves out what it would fetch from elsewhere. */
function guard(scope: FastifyInstance, { access }: PageParts): void {
  scope.addHook('onRequest', async (request, reply) => {
    const page = request.headers['sec-fetch-dest'] === 'document'
    if (page && access.keyed && access.sessionOf(request.headers) === undefined) return reply.redirect('/login', 303)
    reply.header('content-security-policy', POLICY)
    try {
      access.checkKey(request.headers, 'viewer', request.method)
      // Not each of the board's routes asks whether its queue is read-only.
      if (request.method !== 'GET' && request.method !== 'HEAD') throw new TollgateError('FORBIDDEN', 'the board changes nothing')
      return undefined
    } catch (error) {
      // The board would answer it with its own error handler, as a fault of the server.
      const problem = problemOf(tollgateError(error))
      return reply.code(problem.status).send(problem)
    }
  })
  scope.addHook('onSend', async (_request, reply, payload) =>
    typeof payload === 'string' && String(reply.getHeader('content-type')).startsWith('text/html') ? payload.replace(ELSEWHERE, '') : payload,
  )
}

/**
 * Bull Board at /queues, behind the same access as the pages.
 * @param redis where the queue is @returns what closes it; undefined where its packages are not installed
 */
export async function addQueues(app: FastifyInstance, parts: PageParts, figures: Figures, redis: string): Promise<(() => Promise<void>) | undefined> {
  const board = await loadBoard()
  if (board === undefined) return undefined
  const { tollgate, log } = parts
  const { client, owned } = connect(redis, tollgate.prefix)
  logConnection(client as Parameters<typeof logConnection>[0], log, 'the board of the queues')
  const queue = new Queue(tollgate.queue, { prefix: tollgate.prefix, connection: client as never })
  queue.on('error', () => {})
  const adapter = new board.FastifyAdapter()
  adapter.setBasePath(PATH)
  board.createBullBoard({
    queues: [new board.WaitingQueue(queue, figures)],
    serverAdapter: adapter,
    options: {
      uiConfig: {
        boardTitle: 'Tollgate queues',
        miscLinks: [
          { text: 'Lines', url: '/lines' },
          { text: 'Now', url: '/' },
        ],
      },
    },
  })
  await app.register(
    (scope, _options, registered) => {
      guard(scope, parts)
      void scope.register(adapter.registerPlugin() as never)
      registered()
    },
    { prefix: PATH },
  )
  return async () => {
    await queue.close()
    if (owned) client.disconnect()
  }
}
